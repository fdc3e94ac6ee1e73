# SPDX-License-Identifier: Apache-2.0
"""Subsets from groups: what a pass over the subset's own rows gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.moments.statistics import MAX_ROWS
from tests.cases import assert_moments_close, reference_moments, rows_pair
from tests.tolerances import SUMS, eps

F32 = eps(np.float32)
N, GROUPS = 120, 6


def grouped(seed, mean=0.93):
    rng = np.random.default_rng(seed)
    source, target = rows_pair(rng, N, 5, 4, mean=mean)
    group = rng.integers(0, GROUPS, N)
    return source, target, group, moments_by(source, target, group)


def moments_by(source, target, group):
    empty = ja.moments.init_moments(5, 4, groups=GROUPS, grams=True)
    return ja.moments.update_moments(empty, source, target, group=group)


def reduced(moments, *subsets):
    """Reduce to one to three subsets, by one program; the moments of each."""
    weights = np.ones((3, GROUPS), np.float32)
    weights[: len(subsets)] = subsets
    found = ja.moments.reduce_groups(moments, weights)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], found) for i in range(len(subsets))]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    draws=st.lists(
        st.lists(st.integers(0, 3), min_size=GROUPS, max_size=GROUPS).filter(any),
        min_size=3,
        max_size=3,
    ),
)
def test_a_weighted_subset_is_a_pass_over_its_rows(seed, draws):
    source, target, group, moments = grouped(seed)
    for drawn, found in zip(draws, reduced(moments, *draws), strict=True):
        own = np.array(drawn)[group]
        if not own.any():
            continue
        assert_moments_close(found, reference_moments(source, target, own), SUMS * F32)
        assert int(found.rows) == np.count_nonzero(own)


def test_leading_axes_booleans_and_the_default():
    source, target, group, moments = grouped(0)
    weights = np.random.default_rng(1).random((2, 3, GROUPS)) < 0.5
    weights[..., 0] = True
    subsets = ja.moments.reduce_groups(moments, weights)
    assert subsets.cross_covariance.shape == (2, 3, 4, 5)
    one = jax.tree.map(lambda leaf: leaf[1, 2], subsets)
    rows = weights[1, 2][group]
    assert_moments_close(one, reference_moments(source[rows], target[rows]), SUMS * F32)
    everything = ja.moments.reduce_groups(moments)
    assert_moments_close(everything, reference_moments(source, target), SUMS * F32)


def test_an_empty_subset_is_empty():
    *_, moments = grouped(2)
    (nothing,) = reduced(moments, np.zeros(GROUPS))
    assert float(nothing.count) == 0
    assert not np.any(nothing.cross_covariance)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(nothing))


def test_far_groups_of_tight_cones_keep_their_digits():
    # One group alone, far from all others, as of another model pair.
    rng = np.random.default_rng(3)
    group = rng.integers(0, GROUPS, N)
    far = np.where(group == 2, -0.93, 0.93)[:, None]
    source = (1e-3 * rng.standard_normal((N, 5)) + far).astype(np.float32)
    target = (1e-3 * rng.standard_normal((N, 4)) - far).astype(np.float32)
    moments = moments_by(source, target, group)
    (alone,) = reduced(moments, np.arange(GROUPS) == 2)
    expected = reference_moments(source[group == 2], target[group == 2])
    assert_moments_close(alone, expected, SUMS * F32)


def test_several_group_axes_count_as_one():
    source, target, group, moments = grouped(4)
    folded = jax.tree.map(lambda leaf: leaf.reshape(2, 3, *leaf.shape[1:]), moments)
    found = ja.moments.reduce_groups(folded, np.arange(GROUPS) % 2)
    odd = group % 2 == 1
    expected = reference_moments(source[odd], target[odd])
    assert_moments_close(found, expected, SUMS * F32)


def test_rows_stop_counting_at_the_largest_number():
    *_, moments = grouped(5)
    many = moments.replace(rows=np.full(GROUPS, 2**30, np.int32))
    one, everything = reduced(many, [1, 0, 0, 0, 0, 0], [1] * GROUPS)
    assert (int(one.rows), int(everything.rows)) == (2**30, MAX_ROWS)


def test_a_group_that_is_not_finite_spoils_only_what_holds_it():
    source, target, group, _ = grouped(7)
    source[np.flatnonzero(group == 3)[0], 1] = np.nan
    moments = moments_by(source, target, group)
    clean, spoiled = reduced(moments, np.arange(GROUPS) != 3, np.ones(GROUPS))
    rows = group != 3
    assert_moments_close(
        clean, reference_moments(source[rows], target[rows]), SUMS * F32
    )
    assert np.all(np.isnan(spoiled.cross_covariance))


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    moments = ja.moments.init_moments(5, 4, groups=GROUPS)
    for weights in (np.ones(GROUPS + 1), -np.ones(GROUPS), -jnp.ones(GROUPS)):
        with pytest.raises(ValueError, match="weights="):
            ja.moments.reduce_groups(moments, weights)
    for wrong in (ja.moments.init_moments(3, 3), np.ones((2, 2))):
        with pytest.raises(ValueError, match="moments="):
            ja.moments.reduce_groups(wrong, np.ones(2))
