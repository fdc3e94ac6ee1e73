# SPDX-License-Identifier: Apache-2.0
"""Laws of the solvers, driven by Hypothesis at shapes that compile once."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from tests.cases import METHODS, orthonormal, rows_pair, table_moments
from tests.tolerances import POLAR, PROCRUSTES, descent, eps

F32 = eps(np.float32)
ROWS, WIDTH = 48, 6
MODELS = ((0, 1), (1, 2), (2, 0))
seeds = st.integers(0, 2**32 - 1)
laws = settings(deadline=None, max_examples=15)


def procrustes(source, target, weights):
    found = ja.solve.solve_procrustes(table_moments(source, target, weights))
    return np.asarray(found.rotation), PROCRUSTES * F32


def robust(source, target, weights):
    found = ja.solve.solve_robust(source, target, weights=weights, loss="huber")
    # Rounds end when weights move by less than a thousandth: one more or less of them.
    return np.asarray(found.rotation), max(descent(np.float32), 1e-3)


def draw(seed):
    rng = np.random.default_rng(seed)
    return rng, *rows_pair(rng, ROWS, WIDTH, WIDTH, mean=0.9)


both = pytest.mark.parametrize("solve", [procrustes, robust])


@both
@laws
@given(seed=seeds)
def test_order_of_pairs_is_irrelevant(solve, seed):
    rng, source, target = draw(seed)
    weights = rng.uniform(0.5, 2.0, ROWS).astype(np.float32)
    order = rng.permutation(ROWS)
    one, bound = solve(source, target, weights)
    other, _ = solve(source[order], target[order], weights[order])
    np.testing.assert_allclose(other, one, atol=bound)


@both
@laws
@given(seed=seeds)
def test_a_pair_is_two_of_half_its_weight(solve, seed):
    rng, source, target = draw(seed)
    half = ROWS // 2
    weights = rng.uniform(0.5, 2.0, ROWS).astype(np.float32)
    weights[half:] = 0.0
    one, bound = solve(source, target, weights)
    twice = np.arange(ROWS) % half
    other, _ = solve(source[twice], target[twice], 0.5 * weights[twice])
    # Half of the rows: the spectrum is wider than that of all.
    np.testing.assert_allclose(other, one, atol=4 * bound)


@laws
@given(seed=seeds)
def test_a_weight_is_a_number_of_rows(seed):
    rng, source, target = draw(seed)
    # 16 rows of weights 1 to 3, and as many copies of each, padded by no rows.
    counts = np.zeros(ROWS, np.float32)
    counts[:16] = rng.integers(1, 4, 16)
    copies = np.repeat(np.arange(ROWS), counts.astype(int))
    spread = np.concatenate([copies, np.zeros(ROWS - len(copies), int)])
    kept = (np.arange(ROWS) < len(copies)).astype(np.float32)
    one, bound = procrustes(source, target, counts)
    other, _ = procrustes(source[spread], target[spread], kept)
    # Sixteen rows: the spectrum is wider than that of all.
    np.testing.assert_allclose(other, one, atol=4 * bound)


@both
@laws
@given(seed=seeds, power=st.integers(-20, 20), shift=st.floats(-2.0, 2.0))
def test_units_and_origins_are_irrelevant(solve, seed, power, shift):
    _, source, target = draw(seed)
    weights = np.ones(ROWS, np.float32)
    one, bound = solve(source, target, weights)
    # A power of two is exact; the unit of both sides together, for robust errors.
    unit = np.float32(2.0**power)
    moved = unit * (source + np.float32(shift)), unit * (target - np.float32(shift))
    other, _ = solve(*moved, weights)
    np.testing.assert_allclose(other, one, atol=2 * bound)


@both
@laws
@given(seed=seeds)
def test_turning_either_side_turns_the_map(solve, seed):
    rng, source, target = draw(seed)
    left, right = (orthonormal(rng, WIDTH, WIDTH).astype(np.float32) for _ in range(2))
    weights = np.ones(ROWS, np.float32)
    one, bound = solve(source, target, weights)
    other, _ = solve(source @ right.T, target @ left.T, weights)
    np.testing.assert_allclose(other, left @ one @ right.T, atol=2 * bound)


@pytest.mark.parametrize("method", METHODS)
@laws
@given(seed=seeds, power=st.integers(-30, 30))
def test_polar_factor_knows_no_unit_and_turns_along(method, seed, power):
    rng = np.random.default_rng(seed)
    left, right = (orthonormal(rng, WIDTH, WIDTH) for _ in range(2))
    middle = np.diag(np.geomspace(1.0, 0.1, WIDTH))
    matrix = (left @ middle @ right).astype(np.float32)
    factor = ja.solve.polar_factor(np.float32(2.0**power) * matrix, method=method)
    assert bool(factor.converged)
    # Rounding of the product, times the sensitivity: condition 10.
    np.testing.assert_allclose(factor.factor, left @ right, atol=10 * POLAR * F32)
    back = ja.solve.polar_factor(matrix.T, method=method).factor
    np.testing.assert_allclose(back.T, left @ right, atol=10 * POLAR * F32)


@laws
@given(seed=seeds, first=st.integers(0, 2))
def test_consensus_does_not_depend_on_the_order_of_pairs(seed, first):
    rng, source, target = draw(seed)
    third = (target @ orthonormal(rng, WIDTH, WIDTH)).astype(np.float32)
    third += 0.1 * rng.standard_normal(third.shape).astype(np.float32)
    rows, ones = (source, target, third), np.ones(ROWS, np.float32)

    def solve(order):
        # Models change their numbers, pairs their places; the program stays one.
        parts = [table_moments(rows[order[i]], rows[order[j]], ones) for i, j in MODELS]
        return ja.solve.solve_consensus(parts, MODELS).check()

    order = [(first + k) % 3 for k in range(3)]
    one, other = solve([0, 1, 2]), solve(order)
    found = other.between(order.index(0), order.index(1))
    bound = 2 * descent(np.float32)
    np.testing.assert_allclose(found, one.between(0, 1), atol=bound)
    errors = jax.tree.map(float, (one.residual.sum(), other.residual.sum()))
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)
