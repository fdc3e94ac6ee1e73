# SPDX-License-Identifier: Apache-2.0
"""Outputs that are refused before a row is read, and errors that leave nothing."""

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.rows.unfinished import Unfinished
from tests.maps.test_carry_formats import unit_pair
from tests.rows.made_rows import write, write_folder


@pytest.fixture(scope="module")
def amap():
    return ja.fit_map({"image": unit_pair(0, 40)}, source_space="aa")


@pytest.fixture
def rows(tmp_path):
    rows, _ = unit_pair(1, 10)
    (tmp_path / "in").mkdir()
    for name in ("a.npy", "a.npz", "a.parquet"):
        write(tmp_path / "in", name, rows)
    write_folder(tmp_path / "in/made", rows)
    np.save(tmp_path / "in/wide.npy", np.ones((4, 4), np.float32))
    np.save(tmp_path / "in/large.npy", 1e3 * rows)
    return rows


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("source", "change", "argument", "word"),
    [
        ("a.npy", {"out": "in/a.npy"}, "out", "apart from the input"),
        ("a.npy", {"out": "in/../in/a.npy"}, "out", "apart from the input"),
        ("a.npy", {"out": "b.parquet"}, "out", ".npy"),
        ("a.npy", {"out": "b"}, "out", ".npy"),
        ("a.npy", {"out": "b.npy::rows"}, "out", "without a key"),
        ("a.npy", {"dtype": "bfloat16"}, "dtype", "float16"),
        ("a.npy", {"dtype": "int8"}, "dtype", "float16"),
        ("a.npy", {"form": "searches"}, "form", "search"),
        ("a.npy", {"batch_size": 0}, "batch_size", "1"),
        ("a.npy", {"amap": None}, "amap", "AlignmentMap"),
        ("missing.npy", {}, "source", "no file"),
        ("wide.npy", {}, "source", "width 3"),
        ("large.npy", {}, "source", "normalize_input"),
        ("made", {"out": "b"}, "source", "made/::image"),
        ("made", {"out": "b.npy", "modality": "image"}, "out", "folder"),
        ("made", {"out": "in/made/new", "modality": "image"}, "out", "apart"),
        ("a.parquet::emb", {"out": "b.npy"}, "out", ".parquet"),
    ],
)
def test_refused(amap, rows, tmp_path, source, change, argument, word):
    change = dict(change)
    before = listing(tmp_path)
    modality = change.pop("modality", None)
    reference = f"{tmp_path}/in/{source}" + (f"::{modality}" if modality else "")
    out = tmp_path / change.pop("out", "b.npy")
    options = {"amap": amap} | change
    with pytest.raises(ja.UserError, match=rf"carry\({argument}") as caught:
        ja.maps.carry(options.pop("amap"), reference, out, **options)
    assert word in str(caught.value)
    assert listing(tmp_path) == before


def test_another_space_is_refused(amap, rows, tmp_path):
    source = ja.rows.open_rows(tmp_path / "in/a.npy")
    source.space = "cc"
    with pytest.raises(ValueError, match="space 'aa'"):
        ja.maps.carry(amap, source, tmp_path / "b.npy")


def test_an_output_that_exists(amap, rows, tmp_path):
    source, out = tmp_path / "in/a.npy", tmp_path / "b.npy"
    out.write_bytes(b"old")
    with pytest.raises(ValueError, match=r"out=.*overwrite=True"):
        ja.maps.carry(amap, source, out)
    assert out.read_bytes() == b"old"
    ja.maps.carry(amap, source, out, overwrite=True)
    assert np.load(out).shape == (10, 5)


def test_a_folder_that_exists(amap, rows, tmp_path):
    source, out = f"{tmp_path}/in/made::image", tmp_path / "out"
    ja.maps.carry(amap, source, out)
    with pytest.raises(ValueError, match=r"out=.*overwrite=True"):
        ja.maps.carry(amap, source, out)
    (out / "img_emb/img_emb_77.npy").write_bytes(b"old")
    ja.maps.carry(amap, source, out, overwrite=True)
    assert not (out / "img_emb/img_emb_77.npy").exists()
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"thesis\.tex"):
        ja.maps.carry(amap, source, out, overwrite=True)
    assert listing(tmp_path / "out")[-1] == "thesis.tex"


def test_a_second_writer_is_refused(amap, rows, tmp_path):
    other = Unfinished("carry", tmp_path / "b.npy", {"another": "job"})
    with pytest.raises(ValueError, match=r"out=.*another run"):
        ja.maps.carry(amap, tmp_path / "in/a.npy", tmp_path / "b.npy")
    other.close()
    ja.maps.carry(amap, tmp_path / "in/a.npy", tmp_path / "b.npy")


def test_a_map_of_rows_carries_any_single_matrix(rows, tmp_path):
    amap = ja.fit_map(unit_pair(0, 40))
    found = [
        ja.maps.carry(amap, source, tmp_path / out).rows
        for source, out in (
            (ja.rows.open_rows(tmp_path / "in/a.npy", modality="text"), "b.npy"),
            (f"{tmp_path}/in/made::text", "out"),
        )
    ]
    assert found == [10, 10]
