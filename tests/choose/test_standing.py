# SPDX-License-Identifier: Apache-2.0
"""Pooled top-1 against a count by hand; ties, collapse and NaN never score."""

import numpy as np
import pytest

from jaxalign.choose.standing import pooled_top1, stand_out
from jaxalign.metrics.recall import class_top1


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def noisy(seed, n, d=8, noise=0.5):
    index = normal(seed, n, d)
    return index + noise * normal(seed + 1, n, d), index


def by_hand(folds, index_size):
    """Chances from full tables in float64."""
    leads, pool, hits = [], [], []
    for queries, index, offsets in folds:
        x, y = (
            side / np.linalg.norm(side, axis=1, keepdims=True)
            for side in (queries.astype(np.float64), index.astype(np.float64))
        )
        scores = x @ y.T - offsets
        rival = ~np.eye(len(scores), dtype=bool)
        mean = np.array(
            [row[keep].mean() for row, keep in zip(scores, rival, strict=True)]
        )
        leads.append(np.diag(scores) - mean)
        hits.append(np.diag(scores) > np.where(rival, scores, -9).max(axis=1))
        pool.append((scores - mean[:, None])[rival])
    pool = np.concatenate(pool)
    return [
        hit * np.array([(1 - np.mean(pool >= one)) ** (index_size - 1) for one in lead])
        for lead, hit in zip(leads, hits, strict=True)
    ]


@pytest.mark.parametrize("sizes", [(9, 12), (140, 90)], ids=str)
def test_chances_are_those_against_all_rivals(sizes):
    folds, found = [], []
    for seed, n in enumerate(sizes):
        queries, index = noisy(10 * seed, n)
        offsets = 0.1 * normal(99, n)
        folds.append((queries, index, offsets))
        ids = np.arange(n)
        found.append(stand_out(queries, ids, index, ids, offsets=offsets))
    for index_size in (2, 1000):
        chances = pooled_top1(found, index_size)
        for chance, expected in zip(chances, by_hand(folds, index_size), strict=True):
            # Beyond the tails that are kept only certain losers are left.
            close = np.abs(chance - expected) < 1e-6
            lost = (chance == 0) & (expected < 0.99 ** (index_size - 1))
            assert (close | lost).all()
    assert 0.05 < np.mean(np.concatenate(chances)) < 0.95


def test_hits_are_those_of_class_retrieval():
    queries, index = noisy(3, 60, noise=1.0)
    ids = np.arange(60) // 2
    found = stand_out(queries, ids, index, ids)
    np.testing.assert_array_equal(found.hits, class_top1(queries, ids, index, ids))
    assert found.rivals == 60 * 58


@pytest.mark.parametrize("bad", [0.0, 1.0, np.nan])
def test_collapsed_and_nan_queries_have_no_chance(bad):
    _, index = noisy(4, 40)
    ids = np.arange(40)
    queries = np.full((40, 8), bad, np.float32)
    same = np.ones((40, 8), np.float32)
    for rows in (same, index if not bad == 1.0 else same):
        found = stand_out(queries, ids, rows, ids)
        assert not found.hits.any()
        assert pooled_top1([found], 1000)[0].max() < 1e-6
