# SPDX-License-Identifier: Apache-2.0
"""Pairs from two stores: rows of one id together, however the stores were written."""

import numpy as np
import pytest

import jaxalign as ja
from jaxalign import lazy_rows
from tests.cases import assert_moments_close, reference_moments, rows_pair
from tests.tolerances import SUMS, eps

N = 25


def write(folder, space, rows, ids, *, part_examples=10):
    """Write a store of images and texts (their negatives)."""
    modalities = {"image": rows.shape[1], "text": rows.shape[1]}
    with ja.EmbeddingStore.create(
        folder,
        space=space,
        examples=len(ids),
        part_examples=part_examples,
        modalities=modalities,
    ) as writer:
        for start in range(0, len(ids), part_examples):
            part = slice(start, start + part_examples)
            writer.append(
                {"image": rows[part], "text": -rows[part]}, first=start, ids=ids[part]
            )
        return writer.finish()


@pytest.fixture
def rows():
    return rows_pair(np.random.default_rng(0), N, 6, 4)


@pytest.fixture
def ids():
    return [f"picture {number:02d}" for number in range(N)]


def collect(batches):
    parts = list(batches)
    return [
        np.concatenate([np.asarray(part[side]) for part in parts]) for side in (0, 1)
    ]


def test_stores_of_one_pass_are_read_as_they_lie(tmp_path, rows, ids):
    source = write(tmp_path / "source", "aa", rows[0], ids)
    target = write(tmp_path / "target", "bb", rows[1], ids, part_examples=7)
    matched = ja.anchors.match_stores(source, target)
    assert matched.source is None
    assert matched.count == N
    batches = ja.anchors.store_pairs(source, target, "text", batch_size=4)
    np.testing.assert_array_equal(collect(batches)[0], -rows[0])
    moments = ja.accumulate_moments(
        ja.anchors.store_pairs(source, target, "image", batch_size=4)
    )
    expected = reference_moments(*rows)
    assert_moments_close(moments, expected, SUMS * eps(np.float32))


def test_rows_that_one_store_lacks_are_left_out(tmp_path, rows, ids):
    own = np.delete(np.arange(N), [3, 11])
    other = np.delete(np.arange(N), [0, 11, 24])
    source = write(tmp_path / "source", "aa", rows[0][own], [ids[i] for i in own])
    target = write(tmp_path / "target", "bb", rows[1][other], [ids[i] for i in other])
    matched = ja.anchors.match_stores(source, target)
    assert (matched.count, matched.source_only, matched.target_only) == (21, 2, 1)
    both = np.intersect1d(own, other)
    found = collect(
        ja.anchors.store_pairs(source, target, "image", matched=matched, batch_size=4)
    )
    np.testing.assert_array_equal(found[0], rows[0][both])
    np.testing.assert_array_equal(found[1], rows[1][both])


def test_another_order_is_brought_to_the_source_s(tmp_path, rows, ids, monkeypatch):
    monkeypatch.setattr(lazy_rows, "_SPAN", 4)
    read = lazy_rows.JoinedRows.read

    def watched(self, start, stop):
        # In constant memory: never what lies between rows that are far apart.
        assert stop - start <= 6
        return read(self, start, stop)

    monkeypatch.setattr(lazy_rows.JoinedRows, "read", watched)
    order = np.random.default_rng(1).permutation(N)
    source = write(tmp_path / "source", "aa", rows[0], ids)
    target = write(tmp_path / "target", "bb", rows[1][order], [ids[i] for i in order])
    found = collect(ja.anchors.store_pairs(source, target, "image", batch_size=6))
    np.testing.assert_array_equal(found[0], rows[0])
    np.testing.assert_array_equal(found[1], rows[1])


def test_a_place_is_gone_back_to(tmp_path, rows, ids):
    source = write(tmp_path / "source", "aa", rows[0], ids)
    target = write(tmp_path / "target", "bb", rows[1], ids)
    batches = ja.anchors.store_pairs(source, target, "image", batch_size=10)
    next(batches)
    again = ja.anchors.store_pairs(source, target, "image", batch_size=10)
    again.set_state(batches.get_state())
    np.testing.assert_array_equal(collect(again)[1], rows[1][10:])


def test_errors_say_what_to_do(tmp_path, rows, ids):
    source = write(tmp_path / "source", "aa", rows[0], ids)
    with pytest.raises(ValueError, match="with the other model too"):
        ja.anchors.store_pairs(source, source, "image")
    others = write(tmp_path / "others", "bb", rows[1], [f"x{name}" for name in ids])
    with pytest.raises(ValueError, match="same data with both"):
        ja.anchors.store_pairs(source, others, "image")
    target = write(tmp_path / "target", "bb", rows[1], ids)
    with pytest.raises(ValueError, match="audio"):
        ja.anchors.store_pairs(source, target, "audio")
    with pytest.raises(ValueError, match="modality=None.*'image', 'text'"):
        ja.anchors.store_pairs(source, target)
