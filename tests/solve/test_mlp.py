# SPDX-License-Identifier: Apache-2.0
"""The perceptron: learns what is not linear, never falls behind its start, repeats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import jaxalign as ja
from tests.cases import orthonormal
from tests.tolerances import PROCRUSTES, eps

# Optax counts its steps in int32, and scales floats by them.
pytestmark = pytest.mark.standard_promotion

SMALL = {"hidden": 32, "steps": 100, "batch_size": 32, "evaluate_every": 25}
N, D_SOURCE, D_TARGET = 300, 3, 4


def planted(seed, noise=0.0, means=(0.0, 0.0)):
    """Rows of one shape for all tests, and the isometry between them."""
    rng = np.random.default_rng(seed)
    isometry = orthonormal(rng, D_TARGET, D_SOURCE)
    source = rng.standard_normal((N, D_SOURCE))
    target = source @ isometry.T + noise * rng.standard_normal((N, D_TARGET))
    source, target = source + means[0], target + means[1]
    return source.astype(np.float32), target.astype(np.float32), isometry


def test_it_learns_what_is_not_linear():
    source, target, _ = planted(0)
    target = target + 2.0 * np.abs(source).sum(axis=1, keepdims=True)
    solution = ja.solve.fit_mlp(source, target, **SMALL, learning_rate=1e-2).check()
    errors = np.asarray(solution.held_out_errors)
    assert errors.shape == (5,)
    assert errors.min() < 0.5 * errors[0]
    assert int(solution.best_step) == 25 * int(np.argmin(errors))
    moved = solution(source)
    assert moved.shape == target.shape
    spread = np.mean(np.sum((target - target.mean(axis=0)) ** 2, axis=1))
    error = np.mean(np.sum((np.asarray(moved) - target) ** 2, axis=1))
    assert error < 0.5 * errors[0] * spread


def test_a_planted_isometry_is_kept_and_means_can_be_those_of_texts():
    source, target, isometry = planted(1, means=(0.5, 0.2))
    solution = ja.solve.fit_mlp(source, target, **SMALL)
    assert int(solution.best_step) == 0
    text_mean = source.mean(axis=0) + np.float32(0.5)
    there = np.full(D_TARGET, 0.1, np.float32)
    moved = solution(source + np.float32(0.5), source_mean=text_mean, target_mean=there)
    expected = (source - source.mean(axis=0)) @ isometry.T + there
    np.testing.assert_allclose(moved, expected, atol=PROCRUSTES * eps(np.float32))


def test_same_seed_same_bits():
    source, target, _ = planted(2, noise=0.5)
    first, again = (ja.solve.fit_mlp(source, target, **SMALL, seed=7) for _ in range(2))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, first, again))
    other = ja.solve.fit_mlp(source, target, **SMALL, seed=8)
    assert not np.array_equal(first.held_out_errors, other.held_out_errors)


def test_rows_held_out_are_not_trained_on():
    source, target, _ = planted(3, noise=0.1)
    held_out = np.arange(N) % 10 == 0
    spoiled = np.where(held_out[:, None], 100 * target[::-1], target)
    solution = ja.solve.fit_mlp(source, spoiled, **SMALL, held_out=held_out)
    # The start is the isometry of the other rows alone.
    x, y = (s[~held_out].astype(np.float64) for s in (source, spoiled))
    turn = scipy.linalg.polar((y - y.mean(axis=0)).T @ (x - x.mean(axis=0)))[0]
    x, y = source - source.mean(axis=0), spoiled - spoiled.mean(axis=0)
    x, y = (side / np.sqrt(np.mean(np.sum(side**2, axis=1))) for side in (x, y))
    errors = np.sum((x @ turn.T - y) ** 2, axis=1)
    expected = np.mean(errors[held_out])
    assert float(solution.held_out_errors[0]) == pytest.approx(expected, rel=1e-5)


def test_not_a_number_gets_a_code():
    source, target, _ = planted(4)
    with pytest.raises(ja.SolveError, match=r"`fit_mlp`: NON_FINITE"):
        ja.solve.fit_mlp(np.nan * source, target, **SMALL).check()


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    rows = np.ones((20, 3), np.float32)
    for pair in ((rows, rows[:10]), (rows[:9], rows[:9])):
        with pytest.raises(ValueError, match="source, target"):
            ja.solve.fit_mlp(*pair)
    for options in (
        {"hidden": 0},
        {"held_out": np.ones(20, bool)},
        {"weights": np.full(20, np.nan)},
        {"weights": np.zeros(20), "held_out": np.arange(20) < 4},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(options))}="):
            ja.solve.fit_mlp(rows, rows, **options)
