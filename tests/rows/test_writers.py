# SPDX-License-Identifier: Apache-2.0
"""Writers: what other libraries read, whatever the pieces that are appended."""

import errno
import os
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.rows import flat_writer
from tests.rows.made_rows import CUTS, ROWS, write, write_folder

NEW = np.random.default_rng(1).normal(size=(10, 5)).astype(np.float16)
NAMES = ("a.npy", "a.npz", "a.safetensors", "a.parquet")


def rewrite(reference, out, cuts=(), **options):
    """Write `NEW` in the format of a reference, in pieces."""
    like = ja.rows.open_rows(reference)
    widths = {name: 5 for name in like.rows}
    with ja.rows.create_rows(out, like, widths, job={}, **options) as writer:
        for piece in np.split(NEW, sorted(cuts)):
            writer.append({name: piece for name in widths})
        writer.finish()
    found = ja.rows.open_rows(out).rows
    return {name: np.asarray(rows) for name, rows in found.items()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    references = [write(folder, name) for name in NAMES]
    return [*references, str(write_folder(folder / "made"))]


@settings(deadline=None, max_examples=5)
@given(cuts=st.lists(st.integers(0, 10), max_size=4))
def test_any_pieces(sources, tmp_path_factory, cuts):
    folder = tmp_path_factory.mktemp("out")
    for reference in sources:
        name = os.path.basename(reference).partition("::")[0]
        for rows in rewrite(reference, folder / name, cuts).values():
            np.testing.assert_array_equal(rows, NEW)


def test_other_tools_accept_the_archive(sources, tmp_path):
    rewrite(sources[1], tmp_path / "b.npz")
    with zipfile.ZipFile(tmp_path / "b.npz") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["rows.npy"]
    rewrite(sources[1], f"{tmp_path}/c.npz::renamed")
    with np.load(tmp_path / "c.npz") as archive:
        np.testing.assert_array_equal(archive["renamed"], NEW)


@pytest.mark.parametrize("name", NAMES)
def test_no_rows(tmp_path, name):
    like = ja.rows.open_rows(write(tmp_path, name, ROWS[:0]))
    out = tmp_path / f"b{name[1:]}"
    with ja.rows.create_rows(out, like, {"rows": 5}, job={}) as writer:
        writer.finish()
    assert ja.rows.open_rows(out).rows["rows"].shape == (0, 5)


@pytest.mark.parametrize("make", [pa.list_, pa.large_list])
def test_plain_lists_stay_plain(tmp_path, make):
    lists = pa.array([list(map(float, row)) for row in ROWS], make(pa.float32()))
    column = pa.table({"v": lists, "dict": pa.array(["x"] * 10).dictionary_encode()})
    pq.write_table(column, tmp_path / "a.parquet", compression="none")
    like = ja.rows.open_rows(tmp_path / "a.parquet")
    out = tmp_path / "b.parquet"
    with ja.rows.create_rows(out, like, {"rows": 5}, job={}) as writer:
        writer.append({"rows": NEW.astype(np.float32)})
        writer.finish()
    found = pq.read_table(out)
    assert found.schema.field("v").type.equals(make(pa.float32()))
    assert found["dict"].equals(column["dict"])
    np.testing.assert_array_equal(np.stack(found["v"].to_numpy()), NEW)


def write_npy(out, like, *pieces, resumed=0):
    """Write pieces into an `.npy` file."""
    with ja.rows.create_rows(out, like, {"rows": 5}, job={}) as writer:
        assert writer.done == resumed
        for piece in pieces:
            writer.append(piece if isinstance(piece, dict) else {"rows": piece})
        writer.finish()


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        (NEW[:, :4], "shape"),
        (NEW.astype(np.float32), "float16"),
        ({"text": NEW}, "rows of each"),
        (NEW[:3], "10 rows"),
    ],
    ids=["width", "dtype", "modality", "fewer"],
)
def test_what_is_appended_must_fit(tmp_path, rows, word):
    like = ja.rows.open_rows(write(tmp_path, "a.npy"))
    with pytest.raises(ValueError, match=word):
        write_npy(tmp_path / "b.npy", like, rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy"]


def test_a_full_disk_says_so_and_keeps_what_is_safe(tmp_path, monkeypatch):
    monkeypatch.setattr(flat_writer, "_SYNC_BYTES", 1)
    like = ja.rows.open_rows(write(tmp_path, "a.npy"))
    out = tmp_path / "b.npy"
    write_all = flat_writer._write_all

    def fills(file, data):
        if len(data) == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_all(file, data)

    monkeypatch.setattr(flat_writer, "_write_all", fills)
    with pytest.raises(ja.UserError, match=r"make room.*resumes"):
        write_npy(out, like, NEW[:4], NEW[4:])
    monkeypatch.setattr(flat_writer, "_write_all", write_all)
    write_npy(out, like, NEW[4:], resumed=4)
    np.testing.assert_array_equal(np.load(out), NEW)


def test_names_of_parts_are_kept(tmp_path):
    source = write_folder(tmp_path / "in", digits=4, first=0)
    rewrite(source, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out/img_emb").iterdir())
    assert names == [f"img_emb_{k:04d}.npy" for k in (0, 2, 3)]
    lengths = [len(np.load(tmp_path / "out/img_emb" / name)) for name in names]
    assert lengths == [length for length in np.diff(CUTS) if length]


def test_an_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("no folder")
    like = ja.rows.open_rows(write(tmp_path, "a.npy"))
    with pytest.raises(ValueError, match="folder that can be written"):
        ja.rows.create_rows(tmp_path / "file/b.npy", like, {"rows": 5}, job={})
