# SPDX-License-Identifier: Apache-2.0
"""Blocks by hash: the same row, the same block, and all blocks alike."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.trust.blocks import _mix, half_samples

NUMBERS = st.lists(st.integers(0, 2**62), min_size=1, max_size=30)
NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    min_size=1,
    max_size=20,
)

NUMBERED = [2, 18, 18, 11, 34, 56, 62, 41]
NAMED = [40, 9, 59, 41]


@settings(deadline=None)
@given(NUMBERS, st.integers(2, 300), st.integers(0, 2**64 - 1))
def test_a_row_has_its_block_whatever_comes_with_it(numbers, blocks, seed):
    found = ja.trust.block_of_rows(np.array(numbers), blocks=blocks, seed=seed)
    assert found.min() >= 0
    assert found.max() < blocks
    for number, block in zip(numbers, found, strict=True):
        alone = ja.trust.block_of_rows(np.array([number]), blocks=blocks, seed=seed)
        assert alone[0] == block
    backwards = ja.trust.block_of_rows(
        np.array(numbers[::-1]), blocks=blocks, seed=seed
    )
    np.testing.assert_array_equal(backwards[::-1], found)


@settings(deadline=None)
@given(NAMES, st.text("ab", min_size=1, max_size=40))
def test_a_name_has_its_block_however_long_the_others_are(names, longer):
    # A longer neighbour widens the array, and pads the name.
    found = ja.trust.block_of_rows(np.array([*names, longer * 3]))
    alone = [int(ja.trust.block_of_rows(np.array([name]))[0]) for name in names]
    assert found[:-1].tolist() == alone


@pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.int64, np.uint64])
def test_the_type_of_the_numbers_is_all_the_same(dtype):
    numbers = np.arange(1000)
    expected = ja.trust.block_of_rows(numbers)
    np.testing.assert_array_equal(
        ja.trust.block_of_rows(numbers.astype(dtype)), expected
    )


def test_blocks_stay_what_they_were_when_they_were_first_stored():
    # Moments on disk were filled by these; a change of the hash would mix blocks up.
    assert ja.trust.block_of_rows(np.arange(8)).tolist() == NUMBERED
    assert (
        ja.trust.block_of_rows(np.array(["a", "b", "pet/1.png", ""])).tolist() == NAMED
    )


@pytest.mark.parametrize("blocks", [7, 64])
@pytest.mark.parametrize(
    "ids",
    [
        np.arange(40_000),
        np.arange(40_000) * 4096,
        np.array([f"picture-{i}.png" for i in range(40_000)]),
    ],
    ids=["numbers", "strides", "names"],
)
def test_all_blocks_are_filled_alike_and_independent_of_the_seed(ids, blocks):
    first, second = (ja.trust.block_of_rows(ids, blocks=blocks, seed=s) for s in (0, 1))
    for cells, size in ((first, blocks), (first * blocks + second, blocks**2)):
        counts = np.bincount(cells, minlength=size)
        # One draw that is fixed: a hash that is uneven fails by far.
        assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_class_times_block():
    labels = np.arange(100) % 5
    blocks = ja.trust.block_of_rows(np.arange(100), blocks=8)
    groups = ja.trust.block_of_rows(np.arange(100), blocks=8, labels=labels)
    np.testing.assert_array_equal(groups, labels * 8 + blocks)


@pytest.mark.parametrize("blocks", [8, 9, 64])
def test_half_samples_come_with_their_complements(blocks):
    weights = half_samples(blocks, 10, seed=3)
    np.testing.assert_array_equal(weights[::2] + weights[1::2], 2)
    assert set(np.unique(weights)) == {0, 2}
    assert abs(weights.sum(axis=1) - blocks).max() <= blocks % 2
    np.testing.assert_array_equal(weights, half_samples(blocks, 10, seed=3))
    assert (weights != half_samples(blocks, 10, seed=4)).any()
    assert half_samples(blocks, 9, seed=3).shape == (9, blocks)


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    for argument, options in (
        ("ids", {"ids": np.arange(3.0)}),
        ("ids", {"ids": np.zeros((2, 2), int)}),
        ("blocks", {"ids": np.arange(3), "blocks": 1}),
        ("labels", {"ids": np.arange(3), "labels": np.array([0, -1, 0])}),
        ("labels", {"ids": np.arange(3), "labels": np.arange(2)}),
        ("labels", {"ids": np.arange(2), "labels": np.array([0, 2**30])}),
    ):
        with pytest.raises(ValueError, match=f"{argument}="):
            ja.trust.block_of_rows(**options)


def test_numbers_are_mixed_as_published():
    # First outputs of SplitMix64 from seed 0 and from its own increment.
    words = np.array([0, 0x9E3779B97F4A7C15], np.uint64)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    assert _mix(words).tolist() == expected
