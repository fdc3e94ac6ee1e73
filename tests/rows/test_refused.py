# SPDX-License-Identifier: Apache-2.0
"""What is refused, by an error that names the argument and what to do."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jaxalign as ja
from tests.rows.made_rows import ROWS, table, write, write_folder

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"


def refused(reference, **options):
    with pytest.raises(ja.UserError, match=r"`open_rows\(reference=") as caught:
        ja.rows.open_rows(reference, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["a.npy", "a.npz", "a.safetensors", "a.parquet", "made", "store"]
)
def test_git_lfs_pointers_are_called_so(tmp_path, name):
    path = tmp_path / name
    if name == "made":
        path = write_folder(path) / "metadata/metadata_10.parquet"
    if name == "store":
        path.mkdir()
        path /= "manifest.json"
    path.write_bytes(LFS)
    assert "git lfs pull" in refused(tmp_path / name)


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    pickled = np.array([[Trap()]], dtype=object)
    np.save(tmp_path / "a.npy", pickled, allow_pickle=True)
    np.savez(tmp_path / "a.npz", rows=pickled)
    for reference in (tmp_path / "a.npy", f"{tmp_path}/a.npz::rows"):
        assert "pickled" in refused(reference)
    for name in ("a.pt", "a.bin", "a.pkl"):
        (tmp_path / name).write_bytes(b"\x80\x04")
        assert "numpy.save" in refused(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["a.npy", "a.npz::x", "a.safetensors", "a.parquet", "a", "a.csv", "a/*.pq"]
)
def test_missing_files(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=r"a"):
        ja.rows.open_rows(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors", "a.parquet"])
def test_missing_keys_name_those_that_are_there(tmp_path, name):
    reference = write(tmp_path, name)
    path, _, key = reference.partition("::")
    assert f"'{key}'" in refused(f"{path}::other")
    assert "several" not in refused(f"{path}::other")


def test_several_candidates_must_be_named(tmp_path):
    np.savez(tmp_path / "a.npz", one=ROWS, two=ROWS)
    assert "'one', 'two'" in refused(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (ROWS[0], "shape"),
        (ROWS.astype(np.int8), "quantised"),
        (ROWS.astype(np.complex64), "complex64"),
        (ROWS.astype("U5"), "<U5"),
    ],
    ids=["vector", "int8", "complex", "text"],
)
def test_what_is_no_matrix_of_floats(tmp_path, array, word):
    np.save(tmp_path / "a.npy", array)
    assert word in refused(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", rows=array)
    assert word in refused(f"{tmp_path}/a.npz::rows")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.safetensors", "a.parquet"])
def test_cut_off_and_other_contents(tmp_path, name):
    write(tmp_path, name)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-40])
    refused(path)
    path.write_bytes(b"something else that is long enough for a header")
    refused(path)


@pytest.mark.parametrize(
    ("lists", "word"),
    [
        ([[1.0, 2.0], None, [1.0, 2.0]], "null in row 1 "),
        ([[1.0, 2.0], [1.0, 2.0], [None, 2.0]], "null in a list in row 2 "),
        ([[1.0, 2.0], [1.0, 2.0, 3.0]], "list of 3 in row 1 "),
    ],
    ids=["row", "entry", "length"],
)
def test_nulls_and_lengths_name_the_row(tmp_path, lists, word):
    pq.write_table(pa.table({"v": pa.array(lists)}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"v": pa.array([[0.0, 0.0]] * 2)}), tmp_path / "a.parquet")
    rows = ja.rows.open_rows(tmp_path).rows["rows"]
    with pytest.raises(ValueError, match=r"open_rows\(reference=") as caught:
        rows[:]
    number = int(word.split(" row ")[1]) + 2
    assert f"{word.split(' row ')[0]} row {number} " in str(caught.value)


def test_columns_of_other_kinds(tmp_path):
    pq.write_table(table(), tmp_path / "a.parquet")
    assert "'key'" in refused(f"{tmp_path}/a.parquet::key")
    assert "list<" in refused(f"{tmp_path}/a.parquet::tags")


@pytest.mark.parametrize(
    ("reference", "options", "word"),
    [
        ("a.csv", {}, "rows.npy, rows.npz::key"),
        ("a.npy::rows", {}, "without a key"),
        ("a.npy::", {}, "key"),
        ("a.npy", {"id_column": "id"}, "id_column"),
        ("empty", {}, "img_emb/"),
        ("made::audio", {}, "'image', 'text'"),
        ("made::image", {"modality": "text"}, "one modality"),
        ("bare", {"id_column": "key"}, "without metadata"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_references(tmp_path, reference, options, word):
    write(tmp_path, "a.npy")
    (tmp_path / "a.csv").write_text("1,2")
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "made")
    write_folder(tmp_path / "bare", metadata=False)
    assert word in refused(f"{tmp_path}/{reference}", **options)


def test_the_caller_s_own_argument_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`fit\(SOURCE="):
        ja.rows.open_rows(tmp_path / "a.npy", call="fit", argument="SOURCE")
