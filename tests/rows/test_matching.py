# SPDX-License-Identifier: Apache-2.0
"""Rows pair by id where both sides have ids, by position where neither has."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.rows import matching
from tests.rows.made_rows import ROWS, write


def with_ids(folder, name, ids):
    path = folder / f"{name}.parquet"
    lists = [[float(i), 1.0] for i in range(len(ids))]
    column = pa.array(lists, pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": pa.array(ids), "v": column}), path)
    return ja.rows.open_rows(path, id_column="id")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("matching")


keys = st.lists(st.integers(0, 12), unique=True, min_size=1, max_size=8)


@settings(deadline=None, max_examples=30)
@given(own=keys, other=keys)
def test_by_id_as_a_dictionary_would(folder, own, other):
    source = with_ids(folder, "source", [f"{i}" for i in own])
    # Whole numbers: ids are compared as strings.
    target = with_ids(folder, "target", other)
    both = [i for i in own if i in other]
    if not both:
        with pytest.raises(ValueError, match="ids that both sides have"):
            ja.rows.match_rows(source, target)
        return
    found = ja.rows.match_rows(source, target)
    pairs = np.arange(len(own)) if found.source is None else found.source
    assert [own[i] for i in pairs] == both
    if found.target is not None:
        assert [other[i] for i in found.target] == both
    counts = (found.count, found.source_only, found.target_only)
    assert counts == (len(both), len(own) - len(both), len(other) - len(both))


def test_equal_ids_are_compared_block_by_block(folder, monkeypatch):
    monkeypatch.setattr(matching, "_ID_ROWS", 3)
    source = with_ids(folder, "source", list("abcdefgh"))
    found = ja.rows.match_rows(source, with_ids(folder, "target", list("abcdefgh")))
    assert found == matching.MatchedRows(None, None, 8)


def test_by_position(tmp_path):
    source = ja.rows.open_rows(write(tmp_path, "a.npy"))
    target = ja.rows.open_rows(write(tmp_path, "b.npz"))
    assert ja.rows.match_rows(source, target).count == 10
    fewer = ja.rows.open_rows(write(tmp_path, "c.npy", ROWS[:9]))
    with pytest.raises(ValueError, match="10 and 9"):
        ja.rows.match_rows(source, fewer)
    with pytest.raises(ValueError, match="match='id'"):
        ja.rows.match_rows(source, target, match="id")


def test_ids_on_one_side_only(tmp_path):
    source = with_ids(tmp_path, "source", list("abcdefghij"))
    target = ja.rows.open_rows(write(tmp_path, "a.npy"))
    with pytest.raises(ValueError, match=r"none of target.*match='position'"):
        ja.rows.match_rows(source, target)
    assert ja.rows.match_rows(source, target, match="position").count == 10


def test_duplicate_ids_are_named(tmp_path):
    source = with_ids(tmp_path, "source", list("abcb"))
    with pytest.raises(ValueError, match=r"source=.*'b' in rows 1 and 3"):
        ja.rows.match_rows(source, source)


@pytest.mark.usefixtures("no_shape_hook")
def test_an_unknown_way_to_match(tmp_path):
    rows = ja.rows.open_rows(write(tmp_path, "a.npy"))
    with pytest.raises(ValueError, match="match='name'"):
        ja.rows.match_rows(rows, rows, match="name")
