# SPDX-License-Identifier: Apache-2.0
"""What clip-retrieval, embedding-reader and autofaiss ask of a folder.

Asserted here without these packages, as they read: files sorted by name, counts from
the first line of each `.npy`, row i beside line i of the parquet file of the same rank.
"""

import json
import math
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxalign.store.documents import digest
from jaxalign.store.layout import part_file
from tests.store.writing import Data, tree


@pytest.mark.parametrize("parts", [1, 9, 10, 11, 99, 100, 101, 999, 1000, 1001])
def test_digits_are_those_of_clip_retrieval(parts):
    digits = int(math.log10(parts)) + 1
    names = [part_file("image", part, parts) for part in range(parts)]
    assert names[-1] == f"img_emb/img_emb_{str(parts - 1).zfill(digits)}.npy"
    assert names == sorted(names)
    assert part_file("text", 0, parts) == f"text_emb/text_emb_{'0' * digits}.npy"
    assert part_file("metadata", 0, parts) == (
        f"metadata/metadata_{'0' * digits}.parquet"
    )


@pytest.mark.parametrize(
    ("parts", "dtype"),
    [(parts, "float32") for parts in (1, 9, 10, 11, 100)] + [(10, "float16")],
)
def test_the_folder_as_autofaiss_reads_it(tmp_path, parts, dtype):
    skipped = frozenset({2, 4, 6, 7}) if parts > 4 else frozenset({1})
    data = Data(2 * parts, 2, skipped, dtype)
    data.write(tmp_path)
    files = {
        kind: sorted((tmp_path / kind).iterdir())
        for kind in ("img_emb", "text_emb", "metadata")
    }
    # Part 3 has no rows, and no file of any kind.
    assert len({len(found) for found in files.values()}) == 1
    assert len(files["metadata"]) == parts - (parts > 4)
    rows, lines = [], []
    for image, text, table in zip(*files.values(), strict=True):
        suffix = image.stem.removeprefix("img_emb_")
        assert text.name == f"text_emb_{suffix}.npy"
        assert table.name == f"metadata_{suffix}.parquet"
        head = image.read_bytes()[:300].split(b"\n")[0]
        found = re.search(r"'shape': \(([0-9]+), ([0-9]+)\)", str(head))
        kind = re.search(r"'descr': '([<f0-9]+)'", str(head))
        assert found is not None
        assert kind is not None
        assert kind.group(1) == {"float32": "<f4", "float16": "<f2"}[dtype]
        assert image.read_bytes()[:8] == b"\x93NUMPY\x01\x00"
        mapped = np.load(image, mmap_mode="r")
        assert mapped.shape == tuple(map(int, found.groups()))
        assert mapped.flags.c_contiguous
        assert np.load(text, mmap_mode="r").shape == mapped.shape
        rows.append(mapped)
        lines.extend(pq.read_table(table).to_pylist())
    assert [line["id"] for line in lines] == data.ids
    assert list(lines[0]) == ["id", "image_path", "caption", "label", "width"]
    numbers = [int(line["id"].removeprefix("id ")) for line in lines]
    assert [line["label"] for line in lines] == numbers
    np.testing.assert_array_equal(
        np.concatenate(rows), data.rows("image", numbers).astype(dtype)
    )


def test_one_modality_makes_one_folder(tmp_path):
    Data(modalities=("text",)).write(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"text_emb", "metadata", "manifest.json"}


def test_the_manifest_says_what_the_files_are(tmp_path):
    data = Data()
    data.write(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["format"] == "jaxalign-store/1"
    assert manifest["sha256"] == digest(manifest)
    assert (manifest["rows"], manifest["examples"]) == (10, 11)
    assert manifest["modalities"] == {"image": 3, "text": 3}
    assert manifest["skipped"] == [{"id": "id 5", "reason": "a torn file"}]
    assert [part["rows"] for part in manifest["parts"]] == [4, 3, 3]
    named = {name for part in manifest["parts"] for name in part["files"]}
    assert named == {
        name for name, data in tree(tmp_path).items() if data and "/" in name
    }
    entry = manifest["parts"][1]["files"]["text_emb/text_emb_1.npy"]
    assert (entry["shape"], entry["dtype"]) == ([3, 3], "<f4")
