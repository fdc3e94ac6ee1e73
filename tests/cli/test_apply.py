# SPDX-License-Identifier: Apache-2.0
"""Rows are carried as the map was fitted, whole and in order."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jaxalign as ja
from tests.cli.conftest import D_TARGET, planted_rows


@pytest.fixture(scope="module")
def amap(tmp_path_factory):
    """A map of unit rows, as `fit` writes it."""
    source, target = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in map(np.float32, planted_rows())
    )
    path = tmp_path_factory.mktemp("map") / "map.safetensors"
    card = {
        "rows": {"normalized": True},
        "verdict": {"word": "usable", "heldout": {"outside": 0.01}},
    }
    ja.fit_map((source, target), card=card).save(path)
    return path


def test_rows_come_out_at_norm_1_and_bad_ones_as_nan(run, files, amap):
    source, target = planted_rows()
    source[4] = np.nan
    np.save(files / "old.npy", source)
    out = files / "carried.npy"
    done = run("apply", amap, files / "old.npy", out, "--dtype=float32", "--json")
    assert done.code == 0, done.err
    assert (done.json["rows_read"], done.json["rows_bad"]) == (120, 1)
    carried = np.load(out)
    assert (carried.dtype, carried.shape) == (np.float32, (120, D_TARGET))
    assert np.isnan(carried[4]).all()
    good = np.arange(120) != 4
    units = source[good].astype(np.float32)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    expected = np.asarray(ja.AlignmentMap.load(amap)(units, normalize=True))
    np.testing.assert_allclose(carried[good], expected, atol=1e-5)
    cosines = np.sum(carried[good] * target[good].astype(np.float32), axis=1)
    cosines /= np.linalg.norm(target[good].astype(np.float32), axis=1)
    assert np.mean(cosines) > 0.98


def test_an_output_that_exists_stays(run, files, amap):
    done = run("apply", amap, files / "old.npy", files / "new.npy")
    assert done.code == 2
    assert "--overwrite" in done.err
    assert np.load(files / "new.npy").shape == (120, D_TARGET)


def test_rows_of_the_other_side_are_refused(run, files, amap):
    done = run("apply", amap, files / "new.npy", files / "out.npy")
    assert done.code == 2
    assert "IN" in done.err
    assert not (files / "out.npy").exists()


def test_a_folder_with_a_modality_that_the_map_lacks_is_named(run, tmp_path, amap):
    source, target = planted_rows()
    pair = tuple(
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in map(np.float32, (source, target))
    )
    ja.fit_map({"image": pair}).save(tmp_path / "map.safetensors")
    folder = tmp_path / "old"
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    np.save(folder / "img_emb" / "img_emb_0.npy", source)
    np.save(folder / "text_emb" / "text_emb_0.npy", source)
    table = pa.table({"image_path": [f"{n}.jpg" for n in range(len(source))]})
    pq.write_table(table, folder / "metadata" / "metadata_0.parquet")
    done = run("apply", tmp_path / "map.safetensors", folder, tmp_path / "out")
    assert done.code == 2
    assert "::image" in done.err
    done = run(
        "apply", tmp_path / "map.safetensors", f"{folder}/::image", tmp_path / "out"
    )
    assert done.code == 0, done.err
    carried = ja.rows.open_rows(tmp_path / "out", id_column="image_path")
    assert carried.rows["image"].shape == (120, D_TARGET)
    assert carried.ids(0, 2).tolist() == ["0.jpg", "1.jpg"]


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_rows_in_the_place_of_a_map(run, files, suffix):
    wrong = files / f"wrong.{suffix}"
    shutil.copy(files / "old.npy", wrong)
    done = run("apply", wrong, files / "old.npy", files / "out.npy")
    assert done.code == 2
    assert "not a map" in done.err


@pytest.mark.parametrize("word", ["none", "too_few"])
def test_what_a_user_should_know_is_said(run, files, amap, monkeypatch, word):
    monkeypatch.setattr("warnings.filters", [])  # warnings are shown, not raised
    loaded = ja.AlignmentMap.load(amap)
    card = json.loads(json.dumps(dict(loaded.card)))
    card["verdict"] |= {"word": word, "sentence": "NONE: nothing found"}
    bad = files / "bad.safetensors"
    shutil.copy(amap, bad)
    ja.AlignmentMap(loaded.numbers, card=card).save(bad)
    done = run("apply", bad, files / "old.npy", files / "a.npy")
    assert done.code == 0
    assert "warning: the map's verdict: NONE" in done.err


def test_rows_of_another_domain_are_pointed_out(run, tmp_path, monkeypatch):
    monkeypatch.setattr("warnings.filters", [])
    rng = np.random.default_rng(0)
    # The anchors lie in a subspace, and determine that alone.
    source = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 8))
    target = source @ np.linalg.qr(rng.normal(size=(8, 8)))[0]
    card = {"verdict": {"word": "usable", "heldout": {"outside": 0.01}}}
    amap = ja.fit_map((np.float32(source), np.float32(target)), card=card)
    amap.save(tmp_path / "map.safetensors")
    np.save(tmp_path / "same.npy", np.float32(source))
    np.save(tmp_path / "other.npy", rng.normal(size=(60, 8)).astype(np.float32))
    for name, said in (("same", False), ("other", True)):
        done = run(
            "apply",
            tmp_path / "map.safetensors",
            tmp_path / f"{name}.npy",
            tmp_path / f"{name}-out.npy",
            "--normalize=none",
        )
        assert done.code == 0, done.err
        assert ("another domain" in done.err) == said


def test_rows_for_search_are_found_by_untouched_queries(run, files, amap):
    source, target = planted_rows()
    out = files / "for_search.npy"
    flags = ("--for=search", "--dtype=float32")
    done = run("apply", amap, files / "old.npy", out, *flags)
    assert done.code == 2
    assert "--queries" in done.err
    flags += (f"--queries={files / 'new.npy'}",)
    done = run("apply", amap, files / "old.npy", out, *flags)
    assert done.code == 0, done.err
    units = [
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in map(np.float32, (source, target))
    ]
    expected = ja.search.rewrite_rows(
        ja.AlignmentMap.load(amap), units[0], form="search", query_sample=units[1]
    )
    np.testing.assert_allclose(np.load(out), expected, atol=1e-5)
