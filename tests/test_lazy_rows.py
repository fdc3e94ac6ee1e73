# SPDX-License-Identifier: Apache-2.0
"""Rows that are read when asked for are the rows of the array, however it is cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxalign.lazy_rows import ArrayRows, as_rows, chosen_rows, join_rows

ROWS = np.arange(24, dtype=np.float32).reshape(12, 2)


@given(
    cuts=st.lists(st.integers(0, 12), max_size=4),
    start=st.none() | st.integers(-13, 13),
    stop=st.none() | st.integers(-13, 13),
    numbers=st.lists(st.integers(0, 11), max_size=8),
)
def test_pieces_are_one_matrix(cuts, start, stop, numbers):
    rows = join_rows([ArrayRows(piece) for piece in np.split(ROWS, sorted(cuts))])
    np.testing.assert_array_equal(rows[start:stop], ROWS[start:stop])
    np.testing.assert_array_equal(rows.take(numbers), ROWS[numbers])
    chosen = chosen_rows(rows, np.array(numbers, np.int64))
    np.testing.assert_array_equal(chosen[start:stop], ROWS[numbers][start:stop])
    np.testing.assert_array_equal(np.asarray(rows), ROWS)


def test_rows_within_a_piece_are_a_view():
    rows = join_rows([ArrayRows(ROWS[:5]), ArrayRows(ROWS[5:])])
    assert np.shares_memory(rows[1:4], ROWS)
    assert not np.shares_memory(rows[4:6], ROWS)
    assert as_rows(rows) is rows
    assert chosen_rows(rows, None) is rows


def test_no_rows_keep_their_width():
    rows = join_rows([ArrayRows(ROWS[:0]), ArrayRows(ROWS[:0])])
    assert rows[:].shape == rows.take([]).shape == (0, 2)


@pytest.mark.parametrize("wrong", [slice(0, 4, 2), [[0]], [0.5], [True, False]])
def test_what_is_no_slice_and_no_number(wrong):
    with pytest.raises(ValueError, match="rows"):
        as_rows(ROWS)[wrong]
