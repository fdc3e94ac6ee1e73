# SPDX-License-Identifier: Apache-2.0
"""Rows of every format are carried into the same format, with all that lies beside."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from tests.cases import rows_pair
from tests.rows.made_rows import table, write, write_folder
from tests.tolerances import ROWS, eps

N = 10
NAMES = ("a.npy", "a.npz", "a.safetensors", "a.parquet")


def unit_pair(seed, n):
    sides = rows_pair(np.random.default_rng(seed), n, 3, 5, mean=0.9)
    return tuple(side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides)


@pytest.fixture(scope="module")
def amap():
    return ja.fit_map(unit_pair(0, 40), source_space="aa", target_space="bb")


@pytest.fixture(scope="module")
def both():
    """A map of two modalities."""
    pairs = {"image": unit_pair(1, 40), "text": unit_pair(2, 40)}
    return ja.fit_map(pairs, source_space="aa", target_space="bb")


@pytest.fixture(scope="module")
def rows():
    """Unit rows, of which the fourth is not finite and the sixth is zero."""
    rows, _ = unit_pair(3, N)
    rows[3, 1], rows[5] = np.nan, 0
    return rows.astype(np.float16)


def expected(amap, rows, modality=None):
    found = np.array(amap(rows, modality, normalize=True))
    found[[3, 5]] = np.nan
    return found


def read(path):
    """Read rows by the library that wrote the format."""
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".npz":
        with np.load(path) as archive:
            assert archive.files == ["rows"]
            return archive["rows"]
    if path.suffix == ".safetensors":
        return safetensors.numpy.load_file(path)["rows"]
    return np.stack(pq.read_table(path)["emb"].to_numpy())


@pytest.mark.parametrize("name", NAMES)
def test_every_format_is_written_as_it_is_read(amap, rows, tmp_path, name):
    out = tmp_path / "new" / f"b{name[1:]}"
    done = ja.maps.carry(amap, write(tmp_path, name, rows), out)
    found = read(out)
    assert (done.path, done.rows, done.bad, done.resumed) == (out, N, 2, 0)
    assert done.widths == {"rows": 5}
    assert found.dtype == np.float16
    wanted = expected(amap, rows).astype(np.float16)
    np.testing.assert_allclose(found, wanted, atol=2 * eps(np.float16))
    reopened = ja.rows.open_rows(out).rows["rows"]
    np.testing.assert_array_equal(np.asarray(reopened), found)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_dtypes(amap, rows, tmp_path, dtype):
    out = tmp_path / "b.safetensors"
    done = ja.maps.carry(amap, write(tmp_path, "a.safetensors", rows), out, dtype=dtype)
    found = ja.rows.open_rows(out).rows["rows"]
    assert found.dtype.name == done.dtype["rows"] == dtype
    np.testing.assert_allclose(
        np.asarray(found).astype(np.float32), expected(amap, rows), atol=2**-7
    )


@pytest.mark.parametrize("dtype", ["<f8", ">f2", "g"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_any_dtype_and_order(amap, rows, tmp_path, dtype, order):
    np.save(tmp_path / "a.npy", np.asarray(rows, dtype, order=order))
    options = {"dtype": "float64"} if dtype == "g" else {}
    done = ja.maps.carry(amap, tmp_path / "a.npy", tmp_path / "b.npy", **options)
    found = np.load(done.path)
    assert found.dtype == (np.dtype("<f2") if dtype == ">f2" else np.dtype("<f8"))
    np.testing.assert_allclose(found, expected(amap, rows), atol=2 * eps(np.float16))


def test_parquet_keeps_columns_groups_and_compression(amap, rows, tmp_path):
    ja.maps.carry(amap, write(tmp_path, "a.parquet", rows), tmp_path / "b.parquet")
    before, after = (pq.ParquetFile(tmp_path / f"{n}.parquet") for n in "ab")
    assert after.schema_arrow.names == before.schema_arrow.names
    assert after.schema_arrow.field("emb").type.list_size == 5
    for name in ("key", "similarity", "tags"):
        assert after.read()[name].equals(before.read()[name])
    groups = [
        [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
        for file in (before, after)
    ]
    assert groups[0] == groups[1] == [4, 4, 2]
    for column in range(after.metadata.num_columns):
        assert after.metadata.row_group(0).column(column).compression == "ZSTD"


def test_several_parquet_files_keep_their_names(amap, rows, tmp_path):
    parts = tmp_path / "parts"
    parts.mkdir()
    for number, part in ((2, slice(0, 4)), (9, slice(4, 4)), (10, slice(4, 10))):
        pq.write_table(table(rows)[part], parts / f"part-{number}.parquet")
    ja.maps.carry(amap, f"{parts}::emb", tmp_path / "out")
    found = ja.rows.open_rows(f"{tmp_path}/out::emb", id_column="key")
    assert [one.place.base for one in found.tables] == [
        "part-2.parquet",
        "part-9.parquet",
        "part-10.parquet",
    ]
    assert found.ids().tolist() == [f"k{i}" for i in range(N)]
    ja.maps.carry(amap, write(tmp_path, "a.npy", rows), tmp_path / "b.npy")
    np.testing.assert_array_equal(
        np.asarray(found.rows["rows"]), np.load(tmp_path / "b.npy")
    )


@pytest.mark.parametrize("metadata", [True, False])
def test_a_foreign_folder(both, rows, tmp_path, metadata):
    source = write_folder(tmp_path / "in", rows, digits=3, metadata=metadata)
    done = ja.maps.carry(both, source, tmp_path / "out", normalize_input=True)
    assert done.bad_rows == {"image": 2, "text": 2}
    files = {
        str(path.relative_to(tmp_path / "out"))
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    # Part 9 is empty: embedding-reader would pair later parts with its metadata.
    kinds = ["img_emb/img_emb_{}.npy", "text_emb/text_emb_{}.npy"]
    kinds += ["metadata/metadata_{}.parquet"] * metadata
    assert files == {kind.format(k) for kind in kinds for k in ("008", "010", "011")}
    for name in sorted(files):
        if name.startswith("metadata"):
            assert (tmp_path / "out" / name).read_bytes() == (
                source / name
            ).read_bytes()
    found = ja.rows.open_rows(tmp_path / "out")
    wanted = both(rows, "image", normalize=True, normalize_input=True)
    np.testing.assert_allclose(
        np.delete(found.rows["image"][:], [3, 5], axis=0),
        np.delete(np.asarray(wanted), [3, 5], axis=0),
        atol=2 * eps(np.float16),
    )


def test_a_store_becomes_a_store_of_the_target_space(both, rows, tmp_path):
    good = np.array(rows, np.float32)
    good[[3, 5]] = good[0]
    ids = [f"id {i}" for i in range(N)]
    with ja.EmbeddingStore.create(
        tmp_path / "in",
        space="aa",
        examples=N + 1,
        part_examples=4,
        modalities={"image": 3, "text": 3},
    ) as writer:
        for start in (0, 4, 8):
            part = slice(start, start + 4)
            skipped = [("lost", "no file")] if start == 8 else []
            writer.append(
                {"image": good[part], "text": good[part]},
                first=start,
                ids=ids[part],
                skipped=skipped,
            )
        writer.finish()
    done = ja.maps.carry(both, tmp_path / "in", tmp_path / "out")
    store = ja.EmbeddingStore.open(done.path, space="bb")
    store.verify()
    assert store.ids().tolist() == ids
    assert store.skipped == [("lost", "no file")]
    assert store.dim("image") == 5
    np.testing.assert_allclose(
        store.rows("text")[:],
        both(good, "text", normalize=True),
        atol=ROWS * eps(np.float32),
    )
    alone = ja.maps.carry(both, f"{tmp_path}/in::text", tmp_path / "texts")
    assert ja.EmbeddingStore.open(alone.path).modalities == ("text",)


@pytest.fixture(scope="module")
def whole(amap, tmp_path_factory):
    """Rows, and what they are when they are carried in one file."""
    folder = tmp_path_factory.mktemp("whole")
    rows, _ = unit_pair(3, 2500)
    np.save(folder / "whole.npy", rows)
    done = ja.maps.carry(amap, folder / "whole.npy", folder / "carried.npy")
    return rows, np.load(done.path)


@settings(deadline=None, max_examples=5)
@given(
    cuts=st.lists(st.integers(0, 2500), max_size=4),
    batch_size=st.integers(1, 4000),
)
def test_neither_parts_nor_batches_change_a_bit(
    amap, whole, tmp_path_factory, cuts, batch_size
):
    rows, carried = whole
    folder = tmp_path_factory.mktemp("cuts")
    (folder / "parts").mkdir()
    for number, part in enumerate(np.split(rows, sorted(cuts))):
        np.save(folder / f"parts/{number}.npy", part)
    done = ja.maps.carry(
        amap, folder / "parts", folder / "joined", batch_size=batch_size
    )
    found = ja.rows.open_rows(done.path).rows["rows"]
    assert found[:].tobytes() == carried.tobytes()


def test_where_searches_compare_rows(amap, rows, tmp_path):
    source = write(tmp_path, "a.npy", rows)
    done = ja.maps.carry(
        amap, source, tmp_path / "b.npy", form="search", dtype="float32"
    )
    wanted = np.asarray(amap(rows, normalize=True, add_target_mean=False))
    good = np.delete(np.arange(N), [3, 5])
    np.testing.assert_allclose(
        np.load(done.path)[good], wanted[good], atol=ROWS * eps(np.float32)
    )
    assert done.bad == 2
