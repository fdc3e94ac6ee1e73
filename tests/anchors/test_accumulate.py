# SPDX-License-Identifier: Apache-2.0
"""Moments of anchors: pooled about own means, the same in batches of any size."""

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.anchors.accumulate import moments_of
from jaxalign.moments.pooling import pool_modalities
from tests.cases import moments_of as moments_of_rows
from tests.cases import planted_rows
from tests.tolerances import SUMS, eps


def test_rank_of_pooled_modalities_counts_both_means():
    source, target, _ = planted_rows(np.random.default_rng(2), 12, 16)
    parts = {
        "image": moments_of_rows(source[:7], target[:7]),
        "text": moments_of_rows(source[7:], target[7:]),
    }
    pooled = pool_modalities(parts, {"image": 1.0, "text": 1.0})
    # One direction is lost to each mean: the solver takes one more off.
    assert int(pooled.rows) - 1 == 12 - 2
    pairs = {"image": (source[:7], target[:7]), "text": (source[7:], target[7:])}
    assert ja.fit_map(pairs, fit_on="all").card["fit"]["rank"] == 12 - 2


@pytest.mark.parametrize("batch_size", [1, 7, 20, 4096])
def test_batches_of_any_size_give_the_same_moments(batch_size):
    rng = np.random.default_rng(0)
    source, target = rng.standard_normal((20, 3)), rng.standard_normal((20, 4))
    found = moments_of(source, target, grams=True, batch_size=batch_size)
    source, target = source - source.mean(axis=0), target - target.mean(axis=0)
    bound = SUMS * eps(np.float32) * 20
    np.testing.assert_allclose(found.cross_covariance, target.T @ source, atol=bound)
    np.testing.assert_allclose(found.source_gram, source.T @ source, atol=bound)
