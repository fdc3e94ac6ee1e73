# SPDX-License-Identifier: Apache-2.0
"""Batches of arrays: every row once, from any place on, without a copy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxalign as ja


@given(
    n=st.integers(0, 30),
    batch_size=st.integers(1, 12),
    edges=st.tuples(st.integers(0, 30), st.integers(0, 30)),
)
def test_every_row_once_and_in_order(n, batch_size, edges):
    start, stop = sorted(min(edge, n) for edge in edges)
    rows = np.arange(n)[:, None] + np.array([[0.0, 0.5]])
    batches = ja.anchors.array_pairs(
        rows,
        2 * rows,
        weights=np.arange(n),
        group=-np.arange(n),
        batch_size=batch_size,
        rows=range(start, stop),
    )
    assert len(batches) == -(-(stop - start) // batch_size)
    seen = list(batches)
    whole = np.concatenate([batch.source[:, 0] for batch in seen] or [np.empty(0)])
    assert whole.tolist() == list(range(start, stop))
    for batch in seen:
        np.testing.assert_array_equal(batch.target, 2 * batch.source)
        np.testing.assert_array_equal(batch.weights, batch.source[:, 0])
        np.testing.assert_array_equal(batch.group, -batch.source[:, 0])


def test_a_place_is_gone_back_to():
    rows = np.eye(7)
    batches = ja.anchors.array_pairs(rows, rows, batch_size=2)
    next(batches)
    place = batches.get_state()
    rest = [batch.source for batch in batches]
    other = ja.anchors.array_pairs(rows, rows, batch_size=2)
    other.set_state(place)
    np.testing.assert_array_equal(
        np.concatenate([b.source for b in other]), np.concatenate(rest)
    )
    with pytest.raises(ValueError, match="place in other data"):
        other.set_state({"next_row": 8})


def test_other_byte_orders_are_swapped_batch_by_batch(tmp_path):
    rows = np.arange(12.0).reshape(6, 2)
    np.save(tmp_path / "rows.npy", rows.astype(">f4"))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    batches = list(ja.anchors.array_pairs(mapped, rows.astype("g"), batch_size=4))
    for side in ("source", "target"):
        found = np.concatenate([getattr(batch, side) for batch in batches])
        assert found.dtype.isnative
        np.testing.assert_array_equal(found.astype(np.float64), rows)


def test_slices_are_read_only_views_and_the_array_stays_as_it_is():
    rows = np.eye(6, 3)
    batch = next(ja.anchors.array_pairs(rows, rows, batch_size=4))
    assert np.shares_memory(batch.source, rows)
    assert not batch.source.flags.writeable
    assert rows.flags.writeable


def test_memory_maps_are_views(tmp_path):
    np.save(tmp_path / "rows.npy", np.eye(6, 3, dtype=np.float16))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    batch = next(ja.anchors.array_pairs(rows, rows, batch_size=4))
    assert batch.source.base is not None
    assert isinstance(batch.source, np.memmap)
    moments = ja.accumulate_moments(ja.anchors.array_pairs(rows, rows, batch_size=4))
    assert int(moments.rows) == 6


@given(n=st.integers(0, 100), count=st.integers(1, 7), multiple=st.integers(1, 9))
def test_processes_share_all_rows(n, count, multiple):
    shares = [
        ja.anchors.process_rows(n, index, count, multiple=multiple)
        for index in range(count)
    ]
    assert [row for share in shares for row in share] == list(range(n))
    assert all(share.start % multiple == 0 or share.start == n for share in shares)


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_say_what_to_do():
    rows = np.eye(4)
    with pytest.raises(ValueError, match="source.*target.*4 and 3"):
        ja.anchors.array_pairs(rows, rows[:3])
    for bad in (rows.tolist(), rows + 1j, rows.astype(np.int8), rows[0]):
        with pytest.raises(ValueError, match=r"`array_pairs\(target"):
            ja.anchors.array_pairs(rows, bad)
    with pytest.raises(ValueError, match="pass `jax.process_index"):
        ja.anchors.process_rows(10, 3, 3)
    with pytest.raises(ValueError, match=r"group=.*expected shape \(4,\)"):
        ja.anchors.array_pairs(rows, rows, group=np.zeros(3, int))
    with pytest.raises(ValueError, match="at least 1 row"):
        ja.anchors.array_pairs(rows, rows, batch_size=0)
    with pytest.raises(ValueError, match="consecutive rows of the 4"):
        ja.anchors.array_pairs(rows, rows, rows=range(2, 6))
