# SPDX-License-Identifier: Apache-2.0
"""Ridge from moments: NumPy's answer, minimum norm, and folds without a second pass."""

import numpy as np
import pytest

import jaxalign as ja
from tests.cases import moments_of, orthonormal, rows_pair
from tests.tolerances import LINEAR, SUMS, eps

F32 = eps(np.float32)


def reference(source, target, ridge):
    x, y = (np.asarray(side, np.float64) for side in (source, target))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    gram = x.T @ x
    penalty = ridge * np.trace(gram) / len(gram)
    return y.T @ x @ np.linalg.pinv(gram + penalty * np.eye(len(gram)), rcond=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 0.1, 10.0])
@pytest.mark.parametrize(("d_source", "d_target"), [(6, 6), (9, 6)])
def test_matrix_and_residual_are_those_of_the_rows(ridge, d_source, d_target):
    source, target = rows_pair(np.random.default_rng(0), 100, d_source, d_target)
    moments = moments_of(source, target)
    solution = ja.solve.solve_linear(moments, ridge=ridge).check()
    expected = reference(source, target, ridge)
    np.testing.assert_allclose(solution.matrix, expected, atol=LINEAR * F32)
    x, y = source - source.mean(axis=0), target - target.mean(axis=0)
    error = np.sum((x @ np.asarray(solution.matrix).T - y) ** 2)
    bound = SUMS * F32 * float(moments.source_energy + moments.target_energy)
    assert abs(float(solution.residual) - error) <= bound


def test_ridge_means_the_same_for_any_number_of_anchors():
    source, target = rows_pair(np.random.default_rng(1), 60, 6, 6)
    once = ja.solve.solve_linear(moments_of(source, target), ridge=0.3)
    twice = ja.solve.solve_linear(
        moments_of(*(np.tile(side, (2, 1)) for side in (source, target))),
        ridge=0.3,
    )
    np.testing.assert_allclose(once.matrix, twice.matrix, atol=LINEAR * F32)


def test_few_anchors_give_the_shortest_matrix_and_a_code():
    source, target = rows_pair(np.random.default_rng(2), 6, 16, 16)
    solution = ja.solve.solve_linear(moments_of(source, target), ridge=0.0)
    assert int(solution.rank) == 5
    assert int(solution.status) == ja.Status.RANK_DEFICIENT
    expected = reference(source, target, 0.0)
    np.testing.assert_allclose(solution.matrix, expected, atol=LINEAR * F32)
    ja.solve.solve_linear(moments_of(source, target), ridge=0.1).check()


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        (np.ones((1, 6), np.float32), ja.Status.TOO_FEW_ANCHORS),
        (np.full((5, 6), np.nan, np.float32), ja.Status.NON_FINITE),
    ],
)
def test_hopeless_rows_get_a_code(rows, code):
    solution = ja.solve.solve_linear(moments_of(rows, rows), ridge=0.1)
    assert int(solution.status) == code
    with pytest.raises(ja.SolveError, match=code.name):
        solution.check()


def test_errors_by_fold_are_those_of_the_rows():
    rng = np.random.default_rng(4)
    parts = [rows_pair(rng, n, 6, 6, noise=1.0, mean=0.9) for n in (20, 25, 15)]
    ridges = (0.0, 0.1, 1.0)
    choice = ja.solve.choose_ridge([moments_of(*part) for part in parts], ridges)
    expected = np.zeros(3)
    for index, (x, y) in enumerate(parts):
        others = [part for k, part in enumerate(parts) if k != index]
        source = np.concatenate([part[0] for part in others])
        target = np.concatenate([part[1] for part in others])
        for k, ridge in enumerate(ridges):
            moved = (x - source.mean(axis=0)) @ reference(source, target, ridge).T
            expected[k] += np.sum((moved + target.mean(axis=0) - y) ** 2)
    np.testing.assert_allclose(choice.errors, expected / 60, rtol=LINEAR * F32)
    assert float(choice.ridge) == pytest.approx(ridges[int(np.argmin(expected))])


def test_noise_asks_for_more_ridge():
    rng = np.random.default_rng(5)
    mix = orthonormal(rng, 6, 6)
    chosen = []
    for noise in (0.0, 3.0):
        source = rng.standard_normal((60, 6))
        target = source @ mix.T + noise * rng.standard_normal((60, 6))
        folds = [
            moments_of(
                source[k::5].astype(np.float32),
                target[k::5].astype(np.float32),
            )
            for k in range(5)
        ]
        chosen.append(float(ja.solve.choose_ridge(folds).ridge))
    assert chosen[0] <= 1e-3 < 0.1 <= chosen[1]


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    bare, full = (
        ja.moments.init_moments(6, 6),
        ja.moments.init_moments(6, 6, grams=True),
    )
    for moments, ridge, argument in (
        (bare, 0.1, "grams=True"),
        (np.eye(6), 0.1, "expected Moments"),
        (full, -1.0, "ridge=-1"),
    ):
        with pytest.raises(ValueError, match=argument):
            ja.solve.solve_linear(moments, ridge=ridge)
    for folds, ridges, argument in (
        ([full], [0.1], "folds="),
        ([full, full], [], "ridges="),
        ([bare, bare], [0.1], "grams=True"),
    ):
        with pytest.raises(ValueError, match=argument):
            ja.solve.choose_ridge(folds, ridges)
