# SPDX-License-Identifier: Apache-2.0
"""Shares cover a data set once, in whole parts; ranges are merged."""

from hypothesis import given
from hypothesis import strategies as st

from jaxalign.embedding.shares import Share, merge_ranges


@given(
    st.integers(1, 500), st.integers(1, 60), st.integers(1, 9), st.integers(1, 1 << 20)
)
def test_shares_are_whole_parts_and_cover_all(examples, batches, processes, batch_size):
    part_examples = batches * batch_size
    shares = [
        Share(number, processes).examples(examples, part_examples)
        for number in range(processes)
    ]
    covered = [number for share in shares for number in share]
    assert covered == list(range(examples))
    assert all(share.start % part_examples == 0 for share in shares if share)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50))))
def test_merged_ranges_hold_the_same_numbers(pairs):
    ranges = [range(min(pair), max(pair)) for pair in pairs]
    merged = merge_ranges(ranges)
    assert sorted({n for part in ranges for n in part}) == [
        n for part in merged for n in part
    ]
