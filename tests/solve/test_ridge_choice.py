# SPDX-License-Identifier: Apache-2.0
"""Choice of the ridge: groups, GCV and single rows, against refits from the rows."""

import numpy as np
import pytest

import jaxalign as ja
from tests.cases import moments_of, rows_pair
from tests.tolerances import LINEAR, eps

F32 = eps(np.float32)
RIDGES = (0.01, 0.1, 1.0)
# One shape for all: fewer rows by weights of 0.
N, WIDTH = 40, 6


def refit(source, target, weights, penalty):
    """Ridge with means, in float64, for an absolute penalty."""
    x_mean, y_mean = weights @ source / weights.sum(), weights @ target / weights.sum()
    x, y = source - x_mean, target - y_mean
    gram = (weights[:, None] * x).T @ x + penalty * np.eye(x.shape[1])
    matrix = np.linalg.solve(gram, (weights[:, None] * x).T @ y).T
    return lambda rows: (rows - x_mean) @ matrix.T + y_mean


def penalties(source, weights):
    x = source - weights @ source / weights.sum()
    return [r * np.sum(weights @ x**2) / x.shape[1] for r in RIDGES]


def test_groups_of_one_moments_are_a_list_of_folds():
    rng = np.random.default_rng(0)
    source, target = rows_pair(rng, 90, WIDTH, WIDTH, noise=1.0, mean=0.9)
    # Uneven groups, one of them empty.
    group = np.minimum(rng.integers(0, 6, 90), 4)
    empty = ja.moments.init_moments(WIDTH, WIDTH, groups=6, grams=True)
    grouped = ja.moments.update_moments(empty, source, target, group=group)
    listed = [moments_of(source[group == g], target[group == g]) for g in range(5)]
    one, other = (
        ja.solve.choose_ridge(grouped, RIDGES),
        ja.solve.choose_ridge(listed, RIDGES),
    )
    np.testing.assert_allclose(one.errors, other.errors, rtol=LINEAR * F32)
    assert float(one.ridge) == float(other.ridge)


@pytest.mark.parametrize("weighting", ["none", "weights", "padding"])
def test_leave_one_out_is_that_of_refits(weighting):
    rng = np.random.default_rng(1)
    source, target = rows_pair(rng, N, WIDTH, WIDTH, noise=1.0, mean=0.9)
    weights = rng.uniform(0.5, 2.0, N).astype(np.float32)
    if weighting == "padding":
        weights[30:], source[30:] = 0.0, np.nan
    given = None if weighting == "none" else weights
    found = ja.solve.leave_one_out(source, target, RIDGES, weights=given)
    kept = np.ones(N, bool) if given is None else weights > 0
    x, y = (side[kept].astype(np.float64) for side in (source, target))
    w = np.ones(N) if given is None else weights[kept].astype(np.float64)
    for k, penalty in enumerate(penalties(x, w)):
        errors = np.zeros(len(x))
        for i in range(len(x)):
            rest = np.arange(len(x)) != i
            predict = refit(x[rest], y[rest], w[rest], penalty)
            errors[i] = np.sum((predict(x[i]) - y[i]) ** 2)
        expected = np.average(errors, weights=w)
        assert float(found.errors[k]) == pytest.approx(expected, rel=LINEAR * F32)
    assert float(found.ridge) == pytest.approx(RIDGES[int(np.argmin(found.errors))])


def test_gcv_is_its_formula_from_the_hat_matrix():
    rng = np.random.default_rng(3)
    source, target = rows_pair(rng, N, WIDTH, WIDTH, noise=1.0, mean=0.9)
    found = ja.solve.choose_ridge(moments_of(source, target), RIDGES, by="gcv")
    x, y = (side.astype(np.float64) for side in (source, target))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    for k, penalty in enumerate(penalties(x, np.ones(N))):
        hat = x @ np.linalg.solve(x.T @ x + penalty * np.eye(WIDTH), x.T) + 1 / N
        left = np.sum((y - hat @ y) ** 2) / N
        expected = left / (1 - np.trace(hat) / N) ** 2
        assert float(found.errors[k]) == pytest.approx(expected, rel=LINEAR * F32)


def test_rules_pick_what_predicts_new_rows():
    rng = np.random.default_rng(4)
    source, target = rows_pair(rng, 1000, 24, 24, noise=2.0)
    ridges = np.geomspace(1e-4, 100.0, 13).tolist()
    few = source[:60], target[:60]
    empty = ja.moments.init_moments(24, 24, groups=6, grams=True)
    grouped = ja.moments.update_moments(empty, *few, group=np.arange(60) % 6)
    choices = [
        ja.solve.choose_ridge(grouped, ridges),
        ja.solve.choose_ridge(ja.moments.reduce_groups(grouped), ridges, by="gcv"),
        ja.solve.leave_one_out(*few, ridges),
    ]
    x, y = (side.astype(np.float64) for side in few)
    spread = np.sum((x - x.mean(axis=0)) ** 2) / 24

    def error(ridge):
        predict = refit(x, y, np.ones(60), ridge * spread)
        return np.mean((predict(source[60:]) - target[60:]) ** 2)

    errors = [error(ridge) for ridge in ridges]
    for choice in choices:
        # Within a hundredth of the best there is, where the worst is far off.
        assert error(float(choice.ridge)) <= 1.01 * min(errors)
    assert max(errors) > 1.1 * min(errors)


def test_as_many_freedoms_as_rows_are_no_choice():
    source, target = rows_pair(np.random.default_rng(5), N, WIDTH, WIDTH)
    # Six rows: as many freedoms as a linear map with means has.
    weights = (np.arange(N) < WIDTH).astype(np.float32)
    ridges = (0.0, 0.5, 1.0)
    by_row = ja.solve.leave_one_out(source, target, ridges, weights=weights)
    moments = moments_of(source[:WIDTH], target[:WIDTH])
    by_rule = ja.solve.choose_ridge(moments, ridges, by="gcv")
    for choice in (by_row, by_rule):
        assert np.isinf(choice.errors[0])
        assert float(choice.ridge) > 0


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    one = ja.moments.init_moments(4, 4, grams=True)
    grouped = ja.moments.init_moments(4, 4, groups=2, grams=True)
    rows = np.ones((5, 4), np.float32)
    for call, argument in (
        (lambda: ja.solve.choose_ridge(one), "folds="),
        (lambda: ja.solve.choose_ridge(one, by="aic"), "by='aic'"),
        (lambda: ja.solve.choose_ridge([one, one], by="gcv"), "by='gcv'"),
        (lambda: ja.solve.choose_ridge(grouped, by="gcv"), "by='gcv'"),
        (
            lambda: ja.solve.choose_ridge(ja.moments.init_moments(4, 4, groups=2)),
            "grams=True",
        ),
        (lambda: ja.solve.leave_one_out(rows, rows, [-1.0]), "ridges="),
        (lambda: ja.solve.leave_one_out(rows, rows[:3]), "source, target"),
    ):
        with pytest.raises(ValueError, match=argument):
            call()
