# SPDX-License-Identifier: Apache-2.0
"""Groups: each is what its rows alone give, however many groups a batch holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.moments.grouped import block_size
from tests.cases import as_dict, assert_moments_close, reference_moments, rows_pair
from tests.tolerances import SUMS, eps

F32 = eps(np.float32)
N, D_SOURCE, D_TARGET, GROUPS = 300, 6, 4, 5


def group_of(moments, index):
    return jax.tree.map(lambda leaf: leaf[index], moments)


def grouped(source, target, group, *, weights=None, groups=GROUPS):
    empty = ja.init_moments(D_SOURCE, D_TARGET, groups=groups, grams=True)
    return ja.update_moments(empty, source, target, weights=weights, group=group)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    skewed=st.booleans(),
    weighting=st.sampled_from(["none", "mask", "weights"]),
)
def test_each_group_is_its_rows_alone(seed, skewed, weighting):
    rng = np.random.default_rng(seed)
    source, target = rows_pair(rng, N, D_SOURCE, D_TARGET, mean=0.93)
    # Skewed: one group has nearly all rows, another none.
    group = np.where(
        rng.random(N) < (0.95 if skewed else 0.2), 1, rng.integers(0, GROUPS - 1, N)
    )
    weights = {
        "none": None,
        "mask": rng.random(N) < 0.7,
        "weights": rng.integers(0, 3, N).astype(np.float32),
    }[weighting]
    moments = grouped(source, target, group, weights=weights)
    used = np.ones(N) if weights is None else np.asarray(weights, np.float64)
    for index in range(GROUPS):
        own = (group == index) & (used > 0)
        found = group_of(moments, index)
        assert int(found.rows) == own.sum()
        if own.any():
            expected = reference_moments(source[own], target[own], used[own])
            assert_moments_close(found, expected, SUMS * F32)
    empty = group_of(moments, GROUPS - 1)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(empty))


def test_batches_add_up_whatever_their_groups():
    rng = np.random.default_rng(0)
    source, target = rows_pair(rng, N, D_SOURCE, D_TARGET, mean=0.93)
    group = np.sort(rng.integers(0, GROUPS, N))
    at_once = grouped(source, target, group)
    moments = ja.init_moments(D_SOURCE, D_TARGET, groups=GROUPS, grams=True)
    for start in range(0, N, 100):
        rows = slice(start, start + 100)
        moments = ja.update_moments(
            moments, source[rows], target[rows], group=group[rows]
        )
    for index in range(GROUPS):
        assert_moments_close(
            group_of(moments, index), as_dict(group_of(at_once, index)), SUMS * F32
        )


def test_groups_of_several_blocks_and_tight_cones_keep_their_digits():
    # Two far cones of a spread 1000 times smaller than their distance.
    rng = np.random.default_rng(1)
    n = 4000
    group = rng.integers(0, 2, n)
    means = np.array([0.93, -0.93])[group][:, None]
    source = (1e-3 * rng.standard_normal((n, D_SOURCE)) + means).astype(np.float32)
    target = (1e-3 * rng.standard_normal((n, D_TARGET)) + means).astype(np.float32)
    moments = grouped(source, target, group, groups=2)
    assert n // 2 > 2 * block_size(n, 2)
    for index in range(2):
        own = group == index
        expected = reference_moments(source[own], target[own])
        assert_moments_close(group_of(moments, index), expected, SUMS * F32)


@pytest.mark.parametrize("filler", [np.nan, np.inf])
def test_rows_of_weight_0_may_hold_anything(filler):
    rng = np.random.default_rng(2)
    source, target = rows_pair(rng, N, D_SOURCE, D_TARGET)
    group = rng.integers(0, GROUPS, N)
    kept = rng.random(N) < 0.6
    clean = grouped(source, target, group, weights=kept)
    dirty = grouped(
        np.where(kept[:, None], source, np.float32(filler)),
        np.where(kept[:, None], target, np.float32(filler)),
        group,
        weights=kept,
    )
    assert jax.tree.all(jax.tree.map(jnp.array_equal, clean, dirty))


def test_under_jit_a_group_that_does_not_exist_is_left_out():
    rng = np.random.default_rng(3)
    source, target = rows_pair(rng, N, D_SOURCE, D_TARGET)
    group = rng.integers(-1, GROUPS + 1, N)
    inside = (group >= 0) & (group < GROUPS)
    found = jax.jit(grouped)(source, target, group)
    expected = grouped(source, target, np.where(inside, group, 0), weights=inside)
    assert found.rows.tolist() == expected.rows.tolist()
    for index in range(GROUPS):
        alone = as_dict(group_of(expected, index))
        assert_moments_close(group_of(found, index), alone, SUMS * F32)


def test_a_step_takes_memory_for_the_groups_once():
    # The sums are given back in place: a copy of all groups a block would be ruinous.
    groups, d, n = 64, 64, 512
    empty = ja.init_moments(d, d, groups=groups)
    rows = np.ones((n, d), np.float32)
    update = jax.jit(
        lambda moments, group: ja.update_moments(moments, rows, rows, group=group),
        donate_argnums=0,
    )
    memory = update.lower(empty, np.zeros(n, np.int32)).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.5 * empty.memory_bytes


def test_blocks_are_powers_of_two_within_limits():
    assert block_size(50_000, 100) == 256
    assert block_size(100, 1000) == 32
    assert block_size(10**7, 2) == 512


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_say_what_to_do():
    rows = np.ones((5, D_SOURCE), np.float32), np.ones((5, D_TARGET), np.float32)
    numbers = np.zeros(5, np.int32)
    with pytest.raises(ValueError, match=r"init_moments\(..., groups=G\)"):
        ja.update_moments(ja.init_moments(D_SOURCE, D_TARGET), *rows, group=numbers)
    with pytest.raises(ValueError, match="pass group"):
        grouped(*rows, None)
    with pytest.raises(ValueError, match="one number a row"):
        grouped(*rows, numbers[:4])
    with pytest.raises(ValueError, match="number the groups from 0"):
        grouped(*rows, numbers.astype(np.float32))
    for array in (np.array, jnp.array):
        with pytest.raises(ValueError, match=r"group=.*0 to 4, got 0 to 5"):
            grouped(*rows, array([0, 1, 2, 3, 5]))
    with pytest.raises(ValueError, match="at least 1 group"):
        ja.init_moments(3, 3, groups=0)
