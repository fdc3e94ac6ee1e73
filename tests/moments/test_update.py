# SPDX-License-Identifier: Apache-2.0
"""Moments: equal to float64 in one go, however rows are cut, padded and merged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from tests.cases import (
    as_dict,
    assert_moments_close,
    moments_of,
    reference_moments,
    rows_pair,
)
from tests.tolerances import SUMS, eps

F32 = eps(np.float32)


@pytest.mark.parametrize("mean", [0.0, 0.93, 1000.0])
@pytest.mark.parametrize("spread", [1.0, 0.05])
def test_float32_keeps_its_digits_whatever_the_mean(mean, spread):
    rng = np.random.default_rng(1)
    source, target = rows_pair(rng, 400, 6, 4)
    source = (spread * source + np.float32(mean)).astype(np.float32)
    target = (spread * target - np.float32(mean)).astype(np.float32)
    moments = moments_of(source, target)
    assert_moments_close(moments, reference_moments(source, target), SUMS * F32)


def test_batches_of_a_tight_cone_do_not_cancel():
    # Mean norm 0.93, rows of norm about one: a real text space.
    rng = np.random.default_rng(2)
    source, target = rows_pair(rng, 400, 32, 32, mean=0.93)
    source, target = 0.37 * source / np.sqrt(32) + 0.16, target
    moments = ja.moments.init_moments(32, 32, grams=True)
    for start in range(0, 400, 40):
        rows = slice(start, start + 40)
        moments = ja.moments.update_moments(moments, source[rows], target[rows])
    expected = reference_moments(source, target)
    assert np.linalg.norm(expected["source_mean"]) > 0.8
    assert_moments_close(moments, expected, SUMS * F32)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), cuts=st.lists(st.integers(1, 39), max_size=4))
def test_order_and_cuts_do_not_matter(seed, cuts):
    rng = np.random.default_rng(seed)
    source, target = rows_pair(rng, 40, 6, 4, mean=0.9)
    order = rng.permutation(40)
    edges = [0, *sorted(set(cuts)), 40]
    parts = []
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        parts.append(moments_of(source[order[a:b]], target[order[a:b]]))
    rng.shuffle(parts)
    merged = parts[0]
    for part in parts[1:]:
        merged = ja.moments.merge_moments(merged, part)
    assert int(merged.rows) == 40
    assert_moments_close(merged, reference_moments(source, target), SUMS * F32)


def test_merge_is_associative_and_commutative():
    rng = np.random.default_rng(3)
    a, b, c = (moments_of(*rows_pair(rng, n, 6, 4)) for n in (7, 30, 2))
    left = ja.moments.merge_moments(ja.moments.merge_moments(a, b), c)
    right = ja.moments.merge_moments(a, ja.moments.merge_moments(b, c))
    assert_moments_close(left, as_dict(right), SUMS * F32)
    swapped = ja.moments.merge_moments(c, ja.moments.merge_moments(b, a))
    assert_moments_close(left, as_dict(swapped), SUMS * F32)


@pytest.mark.parametrize("side", ["left", "right"])
def test_merging_with_nothing_is_exact(side):
    moments = moments_of(*rows_pair(np.random.default_rng(4), 9, 6, 4))
    empty = ja.moments.init_moments(6, 4, grams=True)
    pair = (empty, moments) if side == "left" else (moments, empty)
    merged = ja.moments.merge_moments(*pair)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, merged, moments))
    nothing = ja.moments.merge_moments(empty, empty)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, nothing, empty))


@pytest.mark.parametrize("filler", [0.0, np.nan, np.inf, 1e30])
def test_padding_may_hold_anything(filler):
    rng = np.random.default_rng(5)
    source, target = rows_pair(rng, 20, 6, 4)
    kept = rng.permutation(20) < 13
    dirty = [
        np.where(kept[:, None], side, np.float32(filler))
        for side in rows_pair(np.random.default_rng(5), 20, 6, 4)
    ]
    padded = moments_of(*dirty, weights=kept)
    plain = moments_of(source[kept], target[kept])
    assert int(padded.rows) == 13
    assert_moments_close(padded, as_dict(plain), SUMS * F32)


def test_a_batch_of_padding_changes_nothing():
    moments = moments_of(*rows_pair(np.random.default_rng(6), 9, 6, 4))
    nan = np.full((5, 6), np.nan, np.float32)
    same = ja.moments.update_moments(
        moments, nan, nan[:, :4], weights=np.zeros(5, np.float32)
    )
    assert jax.tree.all(jax.tree.map(jnp.array_equal, same, moments))


def test_weights_are_those_of_repeated_rows():
    source, target = rows_pair(np.random.default_rng(7), 12, 6, 4)
    weights = np.arange(12) % 4
    weighted = moments_of(
        source, target, weights=weights.astype(np.float32), grams=True
    )
    repeated = moments_of(
        np.repeat(source, weights, axis=0), np.repeat(target, weights, axis=0)
    )
    assert int(weighted.rows) == 9
    assert_moments_close(weighted, as_dict(repeated), SUMS * F32)


def test_subtract_undoes_merge():
    rng = np.random.default_rng(8)
    kept, gone = (moments_of(*rows_pair(rng, n, 6, 4)) for n in (30, 10))
    rest = ja.moments.subtract_moments(ja.moments.merge_moments(kept, gone), gone)
    assert int(rest.rows) == 30
    assert_moments_close(rest, as_dict(kept), 3 * SUMS * F32)
    emptied = ja.moments.subtract_moments(kept, kept)
    empty = ja.moments.init_moments(6, 4, grams=True)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, emptied, empty))


def test_a_batch_without_rows_changes_nothing():
    moments = moments_of(*rows_pair(np.random.default_rng(6), 9, 6, 4))
    none = np.zeros((0, 6), np.float32), np.zeros((0, 4), np.float32)
    for weights in (None, np.zeros(0, np.float32)):
        same = ja.moments.update_moments(moments, *none, weights=weights)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, same, moments))


def test_vmap_is_a_loop_and_merge_takes_leading_axes():
    rng = np.random.default_rng(9)
    groups = [rows_pair(rng, 11, 4, 3) for _ in range(3)]
    source = jnp.stack([x for x, _ in groups])
    target = jnp.stack([y for _, y in groups])
    empty = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (3, *leaf.shape)),
        ja.moments.init_moments(4, 3),
    )
    batched = jax.vmap(ja.moments.update_moments)(empty, source, target)
    twice = ja.moments.merge_moments(batched, batched)
    for index, (x, y) in enumerate(groups):
        one = jax.tree.map(lambda leaf, i=index: leaf[i], batched)
        assert_moments_close(one, reference_moments(x, y), SUMS * F32)
        two = jax.tree.map(lambda leaf, i=index: leaf[i], twice)
        both = reference_moments(np.concatenate([x, x]), np.concatenate([y, y]))
        assert_moments_close(two, both, SUMS * F32)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_accumulated_in_float32(dtype):
    source, target = rows_pair(np.random.default_rng(10), 300, 4, 4)
    source, target = jnp.asarray(source, dtype), jnp.asarray(target, dtype)
    moments = moments_of(source, target)
    assert moments.cross_covariance.dtype == jnp.float32
    assert_moments_close(moments, reference_moments(source, target), SUMS * F32)


@pytest.mark.usefixtures("x64")
def test_float64_under_x64():
    source, target = rows_pair(np.random.default_rng(11), 50, 4, 4, dtype=np.float64)
    moments = moments_of(source, target)
    assert moments.source_gram.dtype == jnp.float64
    expected = reference_moments(source, target)
    assert_moments_close(moments, expected, SUMS * eps(np.float64))


def test_sharded_rows_give_the_same():
    source, target = rows_pair(np.random.default_rng(12), 43, 6, 5, mean=0.9)
    sharding = ja.sharding.row_sharding(ja.sharding.data_mesh())
    padded = [ja.sharding.pad_rows(side, 48) for side in (source, target)]
    rows = [jax.device_put(side, sharding) for side, _ in padded]
    mask = jax.device_put(padded[0][1], sharding)
    assert len(rows[0].sharding.device_set) == 8
    moments = jax.jit(ja.moments.update_moments)(
        ja.moments.init_moments(6, 5), *rows, weights=mask
    )
    assert_moments_close(moments, reference_moments(source, target), SUMS * F32)


def test_memory_is_given_away_on_request_alone():
    rows = rows_pair(np.random.default_rng(14), 9, 6, 4)
    kept = moments_of(*rows)
    expected = ja.moments.update_moments(kept, *rows, decay=0.5)
    given = jax.tree.map(jnp.copy, kept)
    found = ja.moments.update_moments(given, *rows, decay=0.5, donate=True)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, found, expected))
    # The numbers of rows and the means are small; what grows with d x d is reused.
    assert given.cross_covariance.is_deleted()
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(kept))
    step = jax.jit(
        lambda *given: ja.moments.update_moments(*given, decay=0.5, donate=True)
    )
    within = step(kept, *rows)
    assert_moments_close(within, as_dict(expected), SUMS * F32)


def test_second_call_does_not_retrace():
    traced = []

    @jax.jit
    def step(moments, source, target):
        traced.append(1)
        return ja.moments.update_moments(moments, source, target)

    source, target = rows_pair(np.random.default_rng(13), 8, 4, 4)
    moments = ja.moments.init_moments(4, 4)
    for _ in range(3):
        moments = step(moments, source, target)
    assert len(traced) == 1


def test_bad_pairs_are_skipped_on_request():
    source, target = rows_pair(np.random.default_rng(20), 60, 6, 4)
    kept = np.setdiff1d(np.arange(60), [3, 5, 9, 20])
    weights = np.linspace(0.5, 2.0, 60)
    expected = reference_moments(source[kept], target[kept], weights=weights[kept])
    source[3], target[[5, 9]], source[20] = np.nan, np.inf, 0.0
    empty = ja.moments.init_moments(6, 4)
    moments = ja.moments.update_moments(
        empty, source, target, weights=weights, skip_bad=True
    )
    assert int(moments.rows) == 56
    assert_moments_close(moments, expected, SUMS * eps(np.float32))
    batches = ja.anchors.array_pairs(source, target, weights=weights, batch_size=24)
    passed = ja.accumulate_moments(batches, skip_bad=True)
    assert int(passed.rows) == 56
    assert_moments_close(passed, expected, SUMS * eps(np.float32))


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    for widths, argument in (((0, 3), "d_source=0"), ((3, 0), "d_target=0")):
        with pytest.raises(ValueError, match=argument):
            ja.moments.init_moments(*widths)
    empty, rows = ja.moments.init_moments(4, 3), np.ones((5, 4), np.float32)
    for source, target, weights, argument in (
        (rows, rows, None, "target="),
        (rows[:, :3], rows[:, :3], None, "source="),
        (rows, rows[:4, :3], None, "source, target"),
        (rows, rows[:, :3], np.ones(4), "weights="),
    ):
        with pytest.raises(ValueError, match=argument):
            ja.moments.update_moments(empty, source, target, weights=weights)
