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
    empty = ja.moments.init_moments(D_SOURCE, D_TARGET, groups=groups, grams=True)
    return ja.moments.update_moments(
        empty, source, target, weights=weights, group=group
    )


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    skewed=st.booleans(),
    spread=st.sampled_from([1.0, 1e-2]),
    weighted=st.booleans(),
)
def test_each_group_is_its_rows_alone(seed, skewed, spread, weighted):
    rng = np.random.default_rng(seed)
    source, target = rows_pair(rng, N, D_SOURCE, D_TARGET)
    # Skewed: one group has nearly all rows, in several blocks, another none.
    group = np.where(
        rng.random(N) < (0.95 if skewed else 0.2), 1, rng.integers(0, GROUPS - 1, N)
    )
    # Far cones, of a spread up to 100 times smaller than their distance.
    means = np.float32([0.93, -0.93, 0.5, 0.0])[group][:, None]
    source, target = (np.float32(spread) * s + means for s in (source, target))
    weights = rng.integers(0, 3, N).astype(np.float32) if weighted else None
    moments = ja.moments.init_moments(D_SOURCE, D_TARGET, groups=GROUPS, grams=True)
    # Batches add up, whatever their groups.
    for part in (slice(0, N // 2), slice(N // 2, N)):
        moments = ja.moments.update_moments(
            moments,
            source[part],
            target[part],
            weights=weights[part] if weighted else None,
            group=group[part],
        )
    used = np.asarray(weights, np.float64) if weighted else np.ones(N)
    # Means are stored to half an eps of their size, and few rows of a group lie about
    # them within `spread`: merging two parts errs by eps |mean| / (2 spread) at most.
    within = (SUMS + 0.5 * 0.93 / spread) * F32
    assert N // 2 > 4 * block_size(N // 2, GROUPS)
    for index in range(GROUPS):
        own = (group == index) & (used > 0)
        found = group_of(moments, index)
        assert int(found.rows) == own.sum()
        if own.any():
            expected = reference_moments(source[own], target[own], used[own])
            assert_moments_close(found, expected, within)
    empty = group_of(moments, GROUPS - 1)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(empty))


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


@pytest.mark.compiled_text
def test_a_step_takes_memory_for_the_groups_once():
    # The sums are given back in place: a copy of all groups a block would be ruinous.
    groups, d, n = 64, 64, 512
    empty = ja.moments.init_moments(d, d, groups=groups)
    rows = np.ones((n, d), np.float32)
    update = jax.jit(
        lambda moments, group: ja.moments.update_moments(
            moments, rows, rows, group=group
        ),
        donate_argnums=0,
    )
    memory = update.lower(empty, np.zeros(n, np.int32)).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.5 * empty.memory_bytes


def test_blocks_are_powers_of_two_within_limits():
    assert block_size(50_000, 100) == 256
    assert block_size(100, 1000) == 32
    assert block_size(10**7, 2) == 512


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    rows = np.ones((5, D_SOURCE), np.float32), np.ones((5, D_TARGET), np.float32)
    numbers = np.zeros(5, np.int32)
    with pytest.raises(ValueError, match="group="):
        ja.moments.update_moments(
            ja.moments.init_moments(D_SOURCE, D_TARGET), *rows, group=numbers
        )
    for wrong in (
        None,
        numbers[:4],
        numbers.astype(np.float32),
        np.array([0, 1, 2, 3, 5]),
        jnp.array([0, 1, 2, 3, 5]),
        jnp.array([0, 1, 2, 3, -1]),
    ):
        with pytest.raises(ValueError, match="group="):
            grouped(*rows, wrong)
    with pytest.raises(ValueError, match="groups=0"):
        ja.moments.init_moments(3, 3, groups=0)
