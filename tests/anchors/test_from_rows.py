# SPDX-License-Identifier: Apache-2.0
"""Pairs from two row sets: good ones alone, in memory or as a stream."""

import numpy as np
import pytest

import jaxalign as ja
from tests.cases import assert_moments_close, reference_moments, rows_pair
from tests.rows.made_rows import write_folder
from tests.rows.test_matching import with_ids
from tests.tolerances import SUMS, eps

N = 25


@pytest.fixture
def rows():
    source, target = rows_pair(np.random.default_rng(0), N, 6, 4)
    source[3], source[7, 2], target[11, 1] = 0, np.nan, np.inf
    return source, target


@pytest.fixture
def opened(tmp_path, rows):
    for name, side in zip(("source", "target"), rows, strict=True):
        np.save(tmp_path / f"{name}.npy", side)
    return [ja.rows.open_rows(tmp_path / f"{n}.npy") for n in ("source", "target")]


def units(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("normalize", [True, False])
def test_bad_rows_are_left_out_and_counted(opened, rows, normalize):
    found = ja.anchors.paired_anchors(*opened, normalize=normalize)
    good = np.delete(np.arange(N), [3, 7, 11])
    assert found.counts["rows"] == ja.anchors.PairCounts(N, N - 3, 3, 0)
    np.testing.assert_array_equal(found.numbers["rows"], good)
    for side, given in zip(found.pairs["rows"], rows, strict=True):
        expected = units(given[good]) if normalize else given[good]
        np.testing.assert_allclose(side, expected, rtol=8 * eps(np.float32))
    assert ja.Anchors(found.pairs).rows["rows"].count == N - 3


def test_whole_files_stay_mapped(opened, tmp_path):
    good = ja.rows.open_rows(tmp_path / "source.npy").rows["rows"][12:]
    np.save(tmp_path / "good.npy", good)
    one = ja.rows.open_rows(tmp_path / "good.npy")
    found = ja.anchors.paired_anchors(one, one, normalize=False)
    assert all(isinstance(side, np.memmap) for side in found.pairs["rows"])


def test_some_pairs(opened, rows):
    found = ja.anchors.paired_anchors(*opened, numbers=np.array([20, 3, 5]))
    np.testing.assert_array_equal(found.numbers["rows"], [20, 5])
    np.testing.assert_allclose(
        found.pairs["rows"][1], units(rows[1][[20, 5]]), rtol=8 * eps(np.float32)
    )


def test_the_stream_has_the_moments_of_the_good_pairs(opened, rows):
    batches = ja.anchors.row_pairs(*opened, batch_size=10)
    moments = ja.accumulate_moments(batches)
    good = np.delete(np.arange(N), [3, 7, 11])
    expected = reference_moments(*(units(side[good]) for side in rows))
    assert_moments_close(moments, expected, SUMS * eps(np.float32))
    assert batches.counts == ja.anchors.PairCounts(N, N - 3, 3, 0)


def test_the_stream_knows_its_place(opened):
    batches = ja.anchors.row_pairs(*opened, batch_size=10)
    next(batches)
    again = ja.anchors.row_pairs(*opened, batch_size=10)
    again.set_state(batches.get_state())
    np.testing.assert_array_equal(next(again).source, next(batches).source)
    assert again.counts == batches.counts


def test_unmatched_rows_are_counted(tmp_path):
    source = with_ids(tmp_path, "source", list("abcdx"))
    target = with_ids(tmp_path, "target", list("dcba"))
    found = ja.anchors.paired_anchors(source, target, normalize=False)
    assert found.counts["rows"] == ja.anchors.PairCounts(4, 4, 0, 1)
    np.testing.assert_array_equal(found.pairs["rows"][1][:, 0], [3, 2, 1, 0])


def test_modalities_that_pair(tmp_path, opened):
    folder = ja.rows.open_rows(write_folder(tmp_path / "made"))
    both = ja.anchors.paired_anchors(folder, folder)
    assert list(both.pairs) == ["image", "text"]
    images = ja.rows.open_rows(f"{tmp_path}/made::image")
    lone = ja.rows.open_rows(f"{tmp_path}/made/img_emb")
    assert list(ja.anchors.paired_anchors(lone, images).pairs) == ["image"]
    texts = ja.rows.open_rows(f"{tmp_path}/made::text")
    with pytest.raises(ValueError, match="modality that both sides have"):
        ja.anchors.paired_anchors(images, texts)
    with pytest.raises(ValueError, match="modality=None"):
        ja.anchors.row_pairs(folder, folder)
