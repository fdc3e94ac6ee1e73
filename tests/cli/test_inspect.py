# SPDX-License-Identifier: Apache-2.0
"""One screen of what a map or a store holds."""

import numpy as np

import jaxalign as ja
from tests.cli.conftest import planted_rows


def test_a_map(run, tmp_path):
    source, target = map(np.float32, planted_rows())
    pair = source, target
    amap = ja.fit_map({"text": pair}, card={"note": "mine"}, source_space="f00d")
    amap.save(tmp_path / "map.safetensors")
    done = run("inspect", tmp_path / "map.safetensors", "--json")
    assert done.code == 0, done.err
    assert done.json["widths"] == [8, 12]
    assert done.json["modalities"]["text"]["anchors"] == 120
    assert done.json["spaces"] == {"source": "f00d", "target": None}
    assert done.json["fingerprint"] == amap.fingerprint
    text = run("inspect", tmp_path / "map.safetensors").out
    assert "120 anchors" in text
    assert "note" in text
    assert len(text.splitlines()) <= 24


def test_rows(run, files, tmp_path):
    done = run("inspect", files / "old.npy", "--json")
    assert (done.json["kind"], done.json["rows"]) == ("npy", 120)
    with ja.EmbeddingStore.create(
        tmp_path / "store",
        space="f00d",
        examples=2,
        part_examples=2,
        modalities={"text": 3},
    ) as writer:
        writer.append({"text": np.eye(2, 3)}, first=0, ids=["one", "two"])
        writer.finish()
    done = run("inspect", tmp_path / "store", "--json")
    assert (done.json["kind"], done.json["space"]) == ("store", "f00d")
    assert done.json["ids"]
    assert "id" in done.json["columns"]


def test_a_foreign_folder(run, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("img_emb", "metadata"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", np.eye(3, dtype=np.float16))
    table = pa.table({"image_path": ["a", "b", "c"], "score": [1.0, None, 2.0]})
    pq.write_table(table, tmp_path / "metadata" / "metadata_0.parquet")
    done = run("inspect", tmp_path, "--json")
    assert done.code == 0, done.err
    assert done.json["columns"] == ["image_path", "score"]
    assert done.json["modalities"]["image"] == {"width": 3, "dtype": "float16"}
