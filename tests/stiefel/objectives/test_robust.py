# SPDX-License-Identifier: Apache-2.0
"""Robust objective: a loop over rows, reweighting's fixed point, what is measured."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.stiefel.objectives import robust_objective
from tests.cases import planted_rows
from tests.stiefel.objectives.table import (
    SHAPES,
    random_map,
    random_rows,
    random_weights,
    riemannian,
    value_and_gradient,
)
from tests.tolerances import OBJECTIVE, eps

F64 = eps(np.float64)

pytestmark = pytest.mark.usefixtures("x64")


def spoilt_rows(seed, n=60, d=5):
    """Planted rows of which every fifth has a gross partner, in float64."""
    rng = np.random.default_rng(seed)
    source, target, planted = planted_rows(rng, n, d, noise=0.2, means=(0.9, 0.5))
    source, target = source.astype(np.float64), target.astype(np.float64)
    target[::5] += 4.0 * rng.standard_normal((len(target[::5]), d))
    return source, target, planted


def polar(matrix):
    u, _, vt = np.linalg.svd(matrix)
    return u @ vt


@pytest.mark.parametrize("loss", ["huber", "l1"])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_those_of_a_loop(loss, shape):
    source, target = random_rows(0, shape)
    weights = random_weights(1)
    point, scale = random_map(2, shape), 1.4
    x = source - weights @ source / weights.sum()
    y = target - weights @ target / weights.sum()
    errors = [np.linalg.norm(scale * point @ a - b) for a, b in zip(x, y, strict=True)]
    c = np.median(errors)
    if loss == "l1":
        losses = [np.sqrt(r * r + c * c) - c for r in errors]
    else:
        losses = [r * r / 2 if r <= c else c * r - c * c / 2 for r in errors]
    objective = robust_objective(
        source, target, weights=weights, loss=loss, threshold=c, scale=scale
    )
    found, _ = value_and_gradient(objective, jnp.asarray(point))
    expected = weights @ np.asarray(losses) / weights.sum()
    assert float(found) == pytest.approx(expected, rel=OBJECTIVE * F64)


@pytest.mark.parametrize("loss", ["huber", "l1"])
def test_the_fixed_point_of_reweighting_is_stationary(loss):
    source, target, planted = spoilt_rows(3)
    x, y = source - source.mean(axis=0), target - target.mean(axis=0)
    threshold = 0.4
    point = polar(y.T @ x)
    for _ in range(300):
        errors = np.linalg.norm(x @ point.T - y, axis=1)
        if loss == "huber":
            belief = np.minimum(1.0, threshold / errors)
        else:
            belief = 1.0 / np.sqrt(errors**2 + threshold**2)
        point = polar((belief[:, None] * y).T @ x)
    objective = robust_objective(source, target, loss=loss, threshold=threshold)
    lowest, gradient = value_and_gradient(objective, jnp.asarray(point))
    assert np.abs(riemannian(point, gradient)).max() <= OBJECTIVE * F64
    start = objective.closed_form_start()
    np.testing.assert_allclose(start, polar(y.T @ x), atol=OBJECTIVE * F64)
    assert float(lowest) < float(value_and_gradient(objective, start)[0])
    assert np.linalg.norm(point - planted) < np.linalg.norm(start - planted)


@pytest.mark.parametrize("loss", ["huber", "l1"])
def test_solve_robust_is_stationary_at_its_own_means_and_cutoff(loss):
    source, target, _ = spoilt_rows(4)
    solved = ja.solve.solve_robust(
        source, target, loss=loss, max_iterations=500
    ).check()
    means = {
        "source_mean": solved.moments.source_mean,
        "target_mean": solved.moments.target_mean,
    }
    x = source - np.asarray(means["source_mean"])
    y = target - np.asarray(means["target_mean"])
    errors = np.linalg.norm(x @ np.asarray(solved.rotation).T - y, axis=1)
    # The rule of its last round; for l1 errors that are 0 to it.
    middle = np.sort(errors)[(len(errors) - 1) // 2]
    spread = 1.4826 * np.sort(np.abs(errors - middle))[(len(errors) - 1) // 2]
    threshold = middle + 1.345 * spread if loss == "huber" else 1e-6
    objective = robust_objective(
        source, target, loss=loss, threshold=threshold, **means
    )
    _, gradient = value_and_gradient(objective, solved.rotation)
    tangent = np.linalg.norm(riemannian(solved.rotation, gradient))
    # It stops where weights change by 1e-3 of the largest: so much of the terms of a
    # gradient need not cancel.
    largest = 1.0 if loss == "huber" else 1.0 / errors.min()
    terms = np.mean(errors * np.linalg.norm(x, axis=1))
    assert tangent <= 1e-3 * largest * terms
    _, steeper = value_and_gradient(objective, objective.closed_form_start())
    assert tangent < 0.2 * np.linalg.norm(
        riemannian(objective.closed_form_start(), steeper)
    )


def test_the_threshold_is_measured_at_the_plain_map():
    source, target, _ = spoilt_rows(5)
    x, y = source - source.mean(axis=0), target - target.mean(axis=0)
    errors = np.linalg.norm(x @ polar(y.T @ x).T - y, axis=1)
    middle = np.sort(errors)[29]
    spread = 1.4826 * np.sort(np.abs(errors - middle))[29]
    huber, l1 = (
        robust_objective(source, target, loss=loss).threshold
        for loss in ("huber", "l1")
    )
    assert float(huber) == pytest.approx(middle + 1.345 * spread, rel=1e-9)
    assert float(l1) == pytest.approx(0.01 * middle, rel=1e-9)
    # Padding has no error, and a batch its own thresholds.
    padded = [
        np.concatenate([side, np.full((7, 5), np.nan)]) for side in (source, target)
    ]
    mask = np.arange(67) < 60
    both = robust_objective(
        np.stack([padded[0], 2 * padded[0]]),
        np.stack([padded[1], 2 * padded[1]]),
        weights=mask,
    )
    np.testing.assert_allclose(both.threshold, [huber, 2 * huber], rtol=1e-9)
    # A perfect fit leaves rounding, not 0, which nothing could be divided by.
    assert 0 < float(robust_objective(source, source).threshold) < 1e-10
    nothing = robust_objective(source, target, weights=np.zeros(60))
    assert float(nothing.threshold) > 0


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    rows = np.ones((4, 3))
    for name, pair, options in (
        ("loss=", (rows, rows), {"loss": "tukey"}),
        ("threshold=", (rows, rows), {"threshold": 0.0}),
        ("source, target", (rows, rows[:2]), {}),
        ("source=", (rows[0], rows), {}),
    ):
        with pytest.raises(ValueError, match=rf"robust_objective\({name}"):
            robust_objective(*pair, **options)
