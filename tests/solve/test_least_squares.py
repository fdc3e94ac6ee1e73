# SPDX-License-Identifier: Apache-2.0
"""Tests of least squares from rows: against NumPy, at condition numbers Grams lose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.solve.least_squares import solve_least_squares
from jaxalign.solve.linear import solve_linear
from tests.tolerances import eps

F32, F64 = eps(np.float32), eps(np.float64)


def graded_rows(seed, n, d_source, d_target, *, condition):
    """Rows with singular values from 1 down to 1 / condition, and noisy targets."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(n, d_source)))[0]
    right = np.linalg.qr(rng.normal(size=(d_source, d_source)))[0]
    source = left * np.geomspace(1.0, 1.0 / condition, d_source) @ right
    return source, source @ rng.normal(size=(d_source, d_target)) + 1e-3 * rng.normal(
        size=(n, d_target)
    )


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5, unique=True))
def test_equals_numpy_however_the_rows_are_cut(cuts):
    source, target = graded_rows(0, 60, 5, 7, condition=10.0)
    solution = solve_least_squares(
        zip(np.split(source, sorted(cuts)), np.split(target, sorted(cuts)), strict=True)
    )
    expected, residual, rank, _ = np.linalg.lstsq(source, target)
    assert solution.rank == rank == 5
    # 100: error bounds of least squares grow with the condition number, 10, squared.
    np.testing.assert_allclose(solution.matrix, expected.T, atol=100 * F64)
    assert solution.residual == pytest.approx(np.sum(residual), rel=100 * F64)


def test_resolves_what_a_float32_gram_loses():
    # 1e5 is within float32; its square, the Gram's condition number, is not.
    source, target = graded_rows(1, 200, 12, 6, condition=1e5)
    source, target = source.astype(np.float32), target.astype(np.float32)
    source, target = source - source.mean(axis=0), target - target.mean(axis=0)
    solution = solve_least_squares([(source, target)])
    assert solution.rank == 12
    moments = ja.moments.update_moments(
        ja.moments.init_moments(12, 6, grams=True), source, target
    )
    from_gram = solve_linear(moments, ridge=0.0)
    assert int(from_gram.rank) < 12

    def error(matrix):
        return np.sum((source @ np.asarray(matrix, np.float64).T - target) ** 2)

    least = np.linalg.lstsq(source.astype(np.float64), target.astype(np.float64))[1]
    assert error(solution.matrix) == pytest.approx(np.sum(least), rel=F32)
    assert error(from_gram.matrix) > 1.001 * np.sum(least)


def test_takes_the_smallest_of_many_optima():
    source, target = graded_rows(2, 4, 4, 3, condition=2.0)
    source = np.concatenate([source, source @ np.ones((4, 2))], axis=1)
    solution = solve_least_squares([(source, target)])
    expected, _, rank, _ = np.linalg.lstsq(source, target)
    assert solution.rank == rank == 4
    np.testing.assert_allclose(solution.matrix, expected.T, atol=100 * F64)


@pytest.mark.usefixtures("no_shape_hook")
def test_no_rows_and_rows_that_do_not_pair_are_refused():
    source, target = graded_rows(0, 8, 3, 2, condition=2.0)
    for blocks in ([], [(source, target[:5])], [(source, target), (target, target)]):
        with pytest.raises(ValueError, match="blocks="):
            solve_least_squares(blocks)
