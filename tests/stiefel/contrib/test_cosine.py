# SPDX-License-Identifier: Apache-2.0
"""Cosine objective, and with it the centring that all objectives from rows share."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.stiefel.contrib import cosine_objective
from tests.stiefel.objectives.table import (
    SHAPES,
    random_map,
    random_rows,
    random_weights,
    riemannian,
    unit,
    value_and_gradient,
)
from tests.tolerances import OBJECTIVE, eps

F64 = eps(np.float64)

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("centring", ["map", "query", "both"])
@pytest.mark.parametrize("given", [False, True])
def test_values_are_those_of_a_loop(centring, given):
    shape, scale = SHAPES[1], 1.7
    source, target = random_rows(0, shape)
    weights, point = random_weights(1), random_map(2, shape)
    options = {}
    if given:
        rng = np.random.default_rng(3)
        source_mean, target_mean = rng.standard_normal(4), rng.standard_normal(6)
        options = {"source_mean": source_mean, "target_mean": target_mean}
    else:
        source_mean = weights @ source / weights.sum()
        target_mean = weights @ target / weights.sum()
    total = 0.0
    for weight, x, y in zip(weights, source, target, strict=True):
        aligned = scale * point @ (x - source_mean)
        if centring == "map":
            aligned = aligned + target_mean
        if centring == "both":
            y = y - target_mean
        total += weight * (1 - unit(aligned) @ unit(y))
    objective = cosine_objective(
        source, target, weights=weights, scale=scale, centring=centring, **options
    )
    found, _ = value_and_gradient(objective, jnp.asarray(point))
    assert float(found) == pytest.approx(total / weights.sum(), rel=OBJECTIVE * F64)


@pytest.mark.filterwarnings("ignore::jaxalign.errors.PoorFitWarning")
def test_the_default_is_what_the_map_does():
    """A fitted map's own cosines, means and scale included."""
    source, target = random_rows(4, (6, 4), n=40)
    with_scale = ja.fit_map({"image": (source, target)}, ja.Orthogonal(keep="all"))
    objective = cosine_objective(
        source, target, scale=with_scale.numbers.scales["image"]
    )
    found = float(value_and_gradient(objective, with_scale.rotation)[0])
    aligned = np.asarray(with_scale(source))
    expected = 1 - np.mean(np.sum(unit(aligned) * unit(target), axis=1))
    assert found == pytest.approx(expected, rel=OBJECTIVE * F64)
    query = cosine_objective(source, target, centring="query")
    aligned = np.asarray(with_scale(source, add_target_mean=False))
    expected = 1 - np.mean(np.sum(unit(aligned) * unit(target), axis=1))
    found = float(value_and_gradient(query, with_scale.rotation)[0])
    assert found == pytest.approx(expected, rel=OBJECTIVE * F64)


@pytest.mark.parametrize("centring", ["query", "both"])
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_where_nothing_is_added_the_closed_form_is_the_optimum(centring, shape):
    source, target = random_rows(5, shape)
    weights = random_weights(6)
    objective = cosine_objective(source, target, weights=weights, centring=centring)
    start = objective.closed_form_start()
    lowest, gradient = value_and_gradient(objective, start)
    assert np.abs(riemannian(start, gradient)).max() <= OBJECTIVE * F64
    # The trace of the polar factor, and nothing can be above it.
    x = unit(source - weights @ source / weights.sum())
    y = unit(
        target - weights @ target / weights.sum() if centring == "both" else target
    )
    cross = (weights[:, None] * y).T @ x / weights.sum()
    best = 1 - np.linalg.svd(cross, compute_uv=False).sum()
    assert float(lowest) == pytest.approx(best, rel=OBJECTIVE * F64)


def test_rows_without_direction_have_no_cosine_and_no_derivative():
    rows = np.array([[1.0, 2.0], [0.0, 0.0], [-1.0, 1.0]])
    zero = np.zeros(2)
    objective = cosine_objective(rows, rows, source_mean=zero, target_mean=zero)
    found, gradient = value_and_gradient(objective, jnp.eye(2))
    assert float(found) == pytest.approx(1 / 3)
    assert np.all(np.isfinite(gradient))


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    rows = np.ones((4, 3))
    for name, pair, options in (
        ("source=", ([[1.0]], rows), {}),
        ("source=", (rows[:0], rows[:0]), {}),
        ("source, target", (rows, rows[:2]), {}),
        ("source, target", (rows[None], rows), {}),
        ("weights=", (rows, rows), {"weights": np.ones(3)}),
        ("weights=", (rows, rows), {"weights": -np.ones(4)}),
        ("source_mean=", (rows, rows), {"source_mean": np.ones(4)}),
        ("target_mean=", (rows, rows), {"target_mean": np.ones(4)}),
        ("centring=", (rows, rows), {"centring": "none"}),
    ):
        with pytest.raises(ValueError, match=rf"cosine_objective\({name}"):
            cosine_objective(*pair, **options)
