# SPDX-License-Identifier: Apache-2.0
"""Every format gives the rows that were written, by slices and by numbers."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from tests.rows.made_rows import ROWS, table, write, write_folder

NAMES = ("a.npy", "a.npz", "a.safetensors", "a.parquet")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    references = [write(folder, name) for name in NAMES]
    references.append(f"{write_folder(folder / 'made')}/::image")
    return [ja.rows.open_rows(reference) for reference in references]


@settings(deadline=None, max_examples=40)
@given(
    start=st.integers(0, 10),
    stop=st.integers(0, 12),
    numbers=st.lists(st.integers(0, 9), max_size=6),
    size=st.integers(1, 11),
)
def test_rows_of_all_formats(opened, start, stop, numbers, size):
    for row_set in opened:
        (rows,) = row_set.rows.values()
        assert rows.shape == ROWS.shape
        assert rows.dtype == ROWS.dtype
        np.testing.assert_array_equal(rows[start:stop], ROWS[start:stop])
        np.testing.assert_array_equal(rows.take(numbers), ROWS[numbers])
        batches = list(rows.batches(size, start=min(start, 9)))
        np.testing.assert_array_equal(np.concatenate(batches), ROWS[min(start, 9) :])


def test_kinds_and_modalities(opened):
    kinds = [row_set.kind for row_set in opened]
    assert kinds == ["npy", "npz", "safetensors", "parquet", "folder"]
    assert [row_set.modalities for row_set in opened] == [["rows"]] * 4 + [["image"]]
    named = ja.rows.open_rows(opened[0].reference, modality="text")
    assert named.modalities == ["text"]


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_any_dtype_and_order_is_mapped(tmp_path, dtype, order):
    np.save(tmp_path / "a.npy", np.asarray(ROWS, dtype, order=order))
    rows = ja.rows.open_rows(tmp_path / "a.npy").rows["rows"]
    assert isinstance(rows[2:5], np.memmap)
    assert rows.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(rows[2:5], ROWS[2:5].astype(dtype))


def test_stored_members_are_mapped_and_compressed_ones_read(tmp_path):
    np.savez(tmp_path / "a.npz", rows=ROWS, other=np.asfortranarray(ROWS))
    for key in ("rows", "other"):
        rows = ja.rows.open_rows(f"{tmp_path}/a.npz::{key}").rows["rows"]
        assert isinstance(rows[1:3], np.memmap)
        np.testing.assert_array_equal(rows[1:3], ROWS[1:3])
    np.savez_compressed(tmp_path / "b.npz", rows=ROWS)
    rows = ja.rows.open_rows(tmp_path / "b.npz").rows["rows"]
    np.testing.assert_array_equal(rows[1:3], ROWS[1:3])


def test_bfloat16(tmp_path):
    rows = ROWS.astype(ml_dtypes.bfloat16)
    safetensors.numpy.save_file({"only": rows}, tmp_path / "a.safetensors")
    found = ja.rows.open_rows(tmp_path / "a.safetensors").rows["rows"]
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found[3:7], rows[3:7])


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("make", [pa.list_, pa.large_list, lambda k: pa.list_(k, 3)])
def test_lists_of_all_kinds(tmp_path, kind, make):
    lists = pa.array([list(row) for row in ROWS.astype(kind.to_pandas_dtype())])
    pq.write_table(
        pa.table({"v": lists.cast(make(kind))}),
        tmp_path / "a.parquet",
        row_group_size=3,
    )
    rows = ja.rows.open_rows(tmp_path / "a.parquet").rows["rows"]
    assert rows.dtype == kind.to_pandas_dtype()
    np.testing.assert_array_equal(rows[2:8], ROWS[2:8])


def test_several_parquet_files_go_by_number(tmp_path):
    for number in (2, 10, 9):
        part = table()[{2: slice(0, 3), 9: slice(3, 5), 10: slice(5, 10)}[number]]
        pq.write_table(part, tmp_path / f"part-{number}.parquet")
    for reference in (f"{tmp_path}::emb", f"{tmp_path}/part-*.parquet::emb"):
        row_set = ja.rows.open_rows(reference, id_column="key")
        np.testing.assert_array_equal(np.asarray(row_set.rows["rows"]), ROWS)
        assert row_set.ids(2, 6).tolist() == ["k2", "k3", "k4", "k5"]


def test_remote_files_give_the_same_rows(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    for name in NAMES:
        write(tmp_path, name)
    write_folder(tmp_path / "made")
    fsspec.filesystem("memory").put(str(tmp_path), "/rows_test", recursive=True)
    keys = ("a.npy", "a.npz::rows", "a.safetensors::rows", "a.parquet::emb", "made")
    for key in keys:
        row_set = ja.rows.open_rows(f"memory://rows_test/{key}")
        rows = next(iter(row_set.rows.values()))
        np.testing.assert_array_equal(rows[2:9], ROWS[2:9])
        assert row_set.fingerprint() == row_set.fingerprint()


def test_fingerprints_change_with_the_file(tmp_path):
    reference = write(tmp_path, "a.npy")
    before = ja.rows.open_rows(reference).fingerprint()
    assert ja.rows.open_rows(reference).fingerprint() == before
    np.save(reference, ROWS[:9])
    assert ja.rows.open_rows(reference).fingerprint() != before


WITHOUT = """
import sys

sys.modules["pyarrow"] = sys.modules["fsspec"] = None
import jaxalign as ja

*arrays, table = sys.argv[1:]
for reference in arrays:
    rows = ja.rows.open_rows(reference)
    found = ja.anchors.paired_anchors(rows, rows)
    amap = ja.fit_map(found.pairs)
    path, _, _ = reference.partition("::")
    out = path.replace("a.", "b.")
    assert ja.maps.carry(amap, rows, out, normalize_input=True).rows == 10
for reference in (table, "s3://bucket/rows.npy"):
    try:
        ja.rows.open_rows(reference)
    except ja.UserError as error:
        assert "pip install 'jaxalign[rows]'" in str(error), error
    else:
        raise AssertionError(reference)
"""


@pytest.mark.slow
def test_arrays_need_neither_pyarrow_nor_fsspec(tmp_path):
    references = [write(tmp_path, name) for name in NAMES]
    subprocess.run([sys.executable, "-c", WITHOUT, *references], check=True)
