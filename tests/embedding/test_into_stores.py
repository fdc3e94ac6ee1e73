# SPDX-License-Identifier: Apache-2.0
"""Shares of a run, what is left of it, and writing behind the encoder's back.

The stores themselves are tested where data sets go into them:
`tests/experiments/test_embed.py`, `test_embed_killed.py`.
"""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxalign.embedding import into_stores
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


def test_groups_are_written_in_order_and_told_when_they_are_on_disk():
    written = []

    def write(group):
        time.sleep(0.002 * (len(written) % 3))
        written.append(group)

    for number, group in enumerate(into_stores._written(iter(range(20)), write)):
        assert group == number
        assert written[number] == number
    assert written == list(range(20))


def test_a_write_that_fails_ends_the_run_and_writes_nothing_more():
    written = []

    def write(group):
        if group == 3:
            raise OSError("no room")
        written.append(group)

    with pytest.raises(OSError, match="no room"):
        list(into_stores._written(iter(range(20)), write))
    # What had been handed over before the failure showed may follow, in order.
    assert written[:3] == [0, 1, 2]
    assert len(written) < 3 + into_stores._WRITES_AHEAD + 1
