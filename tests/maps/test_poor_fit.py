# SPDX-License-Identifier: Apache-2.0
"""A fit warns where held-out anchors say that it carries nothing, and only there."""

import warnings

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.anchors.folds import fold_rows
from jaxalign.maps.poor_fit import _held_out
from tests.cases import planted_rows

N, D = 200, 12


@pytest.fixture(scope="module")
def pairs():
    source, target, _ = planted_rows(np.random.default_rng(0), N, D, noise=0.5)
    return source, target


def shuffled(pairs, seed=1):
    order = np.random.default_rng(seed).permutation(N)
    return pairs[0], pairs[1][order]


def as_moments(pairs):
    moments = ja.moments.init_moments(D, D, grams=True)
    return ja.moments.update_moments(moments, *pairs)


@pytest.mark.parametrize("family", [ja.Orthogonal(), ja.Ridge(0.1), ja.LowRank(rank=4)])
def test_shuffled_pairs_warn_and_true_ones_do_not(pairs, family):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ja.fit_map(pairs, family)
    with pytest.warns(ja.PoorFitWarning, match="held-out anchors"):
        ja.fit_map(shuffled(pairs), family)


def test_moments_warn_by_their_correlation_alone(pairs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ja.fit_map(as_moments(pairs))
    with pytest.warns(ja.PoorFitWarning, match="unrelated"):
        ja.fit_map(as_moments(shuffled(pairs)))


def test_residual_is_that_of_the_halves_by_rows(pairs):
    anchors = ja.Anchors(shuffled(pairs))
    fold = fold_rows(anchors.rows, 2)["rows"]
    source, target = (np.asarray(side) for side in shuffled(pairs))
    error = base = 0.0
    for half in (0, 1):
        own, other = fold == half, fold != half
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ja.PoorFitWarning)
            amap = ja.fit_map((source[own], target[own]), ja.Ridge(0.1))
        error += np.sum((target[other] - np.asarray(amap(source[other]))) ** 2)
        base += np.sum((target[other] - target[own].mean(axis=0)) ** 2)
    found = _held_out(anchors, ja.Ridge(0.1), {"rows": 1.0}, "none", 4096)
    np.testing.assert_allclose(found, error / base, rtol=1e-4)
