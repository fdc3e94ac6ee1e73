# SPDX-License-Identifier: Apache-2.0
"""Folders of clip-retrieval and autofaiss made by others, and our own stores."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jaxalign as ja
from tests.rows.made_rows import ROWS, table, write_folder


@pytest.mark.parametrize("digits", [1, 4])
@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("modalities", [("image", "text"), ("image",), ("text",)])
def test_parts_go_by_number(tmp_path, digits, metadata, modalities):
    write_folder(tmp_path, digits=digits, metadata=metadata, modalities=modalities)
    row_set = ja.rows.open_rows(tmp_path)
    assert row_set.kind == "folder"
    assert row_set.modalities == list(modalities)
    assert not row_set.has_ids
    assert row_set.space is None
    for modality in modalities:
        expected = ROWS if modality == "image" else -ROWS
        np.testing.assert_array_equal(np.asarray(row_set.rows[modality]), expected)


def test_a_modality_is_selected_either_way(tmp_path):
    write_folder(tmp_path)
    for row_set in (
        ja.rows.open_rows(f"{tmp_path}/::text"),
        ja.rows.open_rows(tmp_path, modality="text"),
    ):
        assert row_set.modalities == ["text"]


def test_empty_parts_may_lack_files(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "img_emb/img_emb_9.npy").unlink()
    (tmp_path / "metadata/metadata_9.parquet").unlink()
    assert len(ja.rows.open_rows(tmp_path)) == 10


def test_a_folder_of_npy_files_is_one_matrix(tmp_path):
    for number, part in ((2, ROWS[:3]), (10, ROWS[3:])):
        np.save(tmp_path / f"part{number}.npy", part)
    row_set = ja.rows.open_rows(tmp_path)
    assert row_set.modalities == ["rows"]
    np.testing.assert_array_equal(np.asarray(row_set.rows["rows"]), ROWS)
    assert ja.rows.open_rows(tmp_path, modality="text").modalities == ["text"]


def test_ids_are_a_column_that_is_named(tmp_path):
    row_set = ja.rows.open_rows(write_folder(tmp_path), id_column="key")
    assert row_set.ids(3, 8).tolist() == ["k3", "k4", "k5", "k6", "k7"]
    # Back again, within one file.
    assert row_set.ids(4, 5).tolist() == ["k4"]
    with pytest.raises(ValueError, match="id in column 'similarity'.*row 1"):
        ja.rows.open_rows(tmp_path, id_column="similarity").ids()
    with pytest.raises(ValueError, match="'nothing'.*'key'"):
        ja.rows.open_rows(tmp_path, id_column="nothing")


def test_numbers_are_ids_too(tmp_path):
    write_folder(tmp_path)
    path = tmp_path / "metadata/metadata_8.parquet"
    pq.write_table(pa.table({"n": [3, 1, 2, 0]}), path)
    for number in (9, 10, 11):
        path = tmp_path / f"metadata/metadata_{number}.parquet"
        rows = pq.read_table(path).num_rows
        pq.write_table(pa.table({"n": range(10 * number, 10 * number + rows)}), path)
    assert ja.rows.open_rows(tmp_path, id_column="n").ids(2, 5).tolist() == [
        "2",
        "0",
        "100",
    ]


def test_parts_that_do_not_fit_are_one_error(tmp_path):
    write_folder(tmp_path)
    np.save(tmp_path / "text_emb/text_emb_8.npy", ROWS[:3])
    (tmp_path / "metadata/metadata_11.parquet").unlink()
    with pytest.raises(ValueError, match="part 8.*4 rows.*3 rows.*part 11.*no file"):
        ja.rows.open_rows(tmp_path)


def test_widths_that_differ_name_the_file(tmp_path):
    write_folder(tmp_path, modalities=("image",), metadata=False)
    np.save(tmp_path / "img_emb/img_emb_10.npy", ROWS[:3, :2])
    with pytest.raises(ValueError, match=r"one width.*img_emb_10\.npy"):
        ja.rows.open_rows(tmp_path)


def test_two_files_of_one_number(tmp_path):
    write_folder(tmp_path)
    np.save(tmp_path / "img_emb/img_emb_08.npy", ROWS[:4])
    with pytest.raises(ValueError, match=r"img_emb_0?8\.npy and img_emb_0?8\.npy"):
        ja.rows.open_rows(tmp_path)


def test_a_store(tmp_path):
    ids = [f"id {i}" for i in range(10)]
    with ja.EmbeddingStore.create(
        tmp_path, space="aa", examples=10, part_examples=4, modalities={"image": 3}
    ) as writer:
        for start in (0, 4, 8):
            part = slice(start, start + 4)
            writer.append(
                {"image": ROWS[part]},
                first=start,
                ids=ids[part],
                columns={"label": list(range(10))[part]},
            )
        writer.finish()
    row_set = ja.rows.open_rows(tmp_path)
    assert (row_set.kind, row_set.space) == ("store", "aa")
    assert row_set.ids(3, 6).tolist() == ids[3:6]
    rows = row_set.rows["image"]
    np.testing.assert_array_equal(rows[2:9], ROWS[2:9].astype(np.float32))
    np.testing.assert_array_equal(rows.take([9, 0]), ROWS[[9, 0]].astype(np.float32))
    labelled = ja.rows.open_rows(f"{tmp_path}::image", id_column="label")
    assert labelled.ids(3, 5).tolist() == ["3", "4"]
    with pytest.raises(ValueError, match="modality='text'"):
        ja.rows.open_rows(f"{tmp_path}::text")


def test_metadata_that_nobody_reads_may_hold_anything(tmp_path):
    write_folder(tmp_path)
    odd = table().drop_columns("emb").slice(0, 4)
    odd = odd.append_column("odd", pa.array([None, {"a": 1}, None, {"a": 2}]))
    pq.write_table(odd, tmp_path / "metadata/metadata_8.parquet")
    assert len(ja.rows.open_rows(tmp_path)) == 10
