# SPDX-License-Identifier: Apache-2.0
"""Merging, removing and forgetting: laws that hold for any history of the rows."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.moments.statistics import MAX_ROWS
from tests.cases import assert_moments_close, moments_of, reference_moments, rows_pair
from tests.tolerances import SUMS, eps

F32 = eps(np.float32)
N = 60


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shards=st.integers(2, 5),
    padding=st.integers(0, 7),
    removed=st.integers(0, 4),
)
def test_split_pad_merge_and_remove_in_any_order(seed, shards, padding, removed):
    rng = np.random.default_rng(seed)
    source, target = rows_pair(rng, N, 6, 4, mean=0.93)
    owner = rng.integers(0, shards, N)
    parts = []
    for shard in range(shards):
        rows = np.flatnonzero(owner == shard)
        size = len(rows) + padding
        dirty = [
            np.full((size, side.shape[1]), np.nan, np.float32)
            for side in (source, target)
        ]
        places = np.sort(rng.permutation(size)[: len(rows)])
        mask = np.zeros(size, bool)
        mask[places] = True
        for side, rows_of in zip(dirty, (source, target), strict=True):
            side[places] = rows_of[rows]
        parts.append(moments_of(*dirty, weights=mask))
    whole = parts[0]
    for index in 1 + rng.permutation(shards - 1):
        pair = (whole, parts[index])
        whole = ja.moments.merge_moments(*(pair if rng.random() < 0.5 else pair[::-1]))
    out = removed % shards
    rest = ja.moments.subtract_moments(whole, parts[out])
    kept = owner != out
    assert int(rest.rows) == kept.sum()
    if kept.sum() < N // 4:
        return
    # Right up to rounding relative to the whole, which is at most a few times the rest.
    expected = reference_moments(source[kept], target[kept])
    assert_moments_close(rest, expected, 5 * SUMS * F32)


def test_decay_before_each_batch_weighs_rows_by_their_age():
    rng = np.random.default_rng(0)
    source, target = rows_pair(rng, N, 6, 4, mean=0.5)
    moments = ja.moments.init_moments(6, 4, grams=True)
    for start in range(0, N, 20):
        rows = slice(start, start + 20)
        moments = ja.moments.update_moments(
            moments, source[rows], target[rows], decay=0.5
        )
    weights = np.repeat([0.25, 0.5, 1.0], 20)
    assert_moments_close(
        moments, reference_moments(source, target, weights), SUMS * F32
    )
    assert int(moments.rows) == N


def test_decay_by_group_and_of_nothing():
    rng = np.random.default_rng(1)
    source, target = rows_pair(rng, N, 6, 4)
    empty = ja.moments.init_moments(6, 4, groups=2)
    group = np.arange(N) % 2
    moments = ja.moments.update_moments(empty, source, target, group=group)
    faded = ja.moments.decay_moments(moments, np.array([1.0, 0.5], np.float32))
    assert faded.count.tolist() == [N / 2, N / 4]
    np.testing.assert_array_equal(faded.source_mean, moments.source_mean)
    np.testing.assert_array_equal(
        faded.cross_covariance[1], 0.5 * moments.cross_covariance[1]
    )
    same = ja.moments.decay_moments(moments, 1.0)
    assert jax.tree.all(jax.tree.map(np.array_equal, same, moments))


def test_rows_stop_counting_at_the_largest_number():
    some = moments_of(*rows_pair(np.random.default_rng(2), 9, 6, 4))
    many = some.replace(rows=np.int32(2**30))
    assert int(ja.moments.merge_moments(many, some).rows) == 2**30 + 9
    assert int(ja.moments.merge_moments(many, many).rows) == MAX_ROWS


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_what_does_not_fit():
    one, two = ja.moments.init_moments(3, 3, groups=2), ja.moments.init_moments(3, 3)
    for left, right, what in (
        (one, two, "groups"),
        ({}, two, "expected Moments"),
        (two, ja.moments.init_moments(3, 4), "widths"),
        (two, ja.moments.init_moments(3, 3, grams=True), "grams=True"),
    ):
        with pytest.raises(ValueError, match=what):
            ja.moments.merge_moments(left, right)
    with pytest.raises(ValueError, match="whole, part"):
        ja.moments.subtract_moments(two, two.replace(rows=np.int32(1)))
    rows = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="weights="):
        ja.moments.update_moments(two, rows, rows, weights=np.array([1.0, -1.0, 1.0]))
    for factor in (-0.1, 1.5):
        with pytest.raises(ValueError, match="factor="):
            ja.moments.decay_moments(two, factor)
        with pytest.raises(ValueError, match="decay="):
            ja.moments.update_moments(two, rows, rows, decay=factor)
