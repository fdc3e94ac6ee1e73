# SPDX-License-Identifier: Apache-2.0
"""The doctor names what is wrong with rows, and nothing else."""

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.maps.kept_pairs import KeptPairs, Sample
from jaxalign.spaces import Space
from tests.cli.conftest import planted_rows


def _names(done):
    assert done.code == 0, done.err
    return {one["name"]: one for one in done.json["findings"]}


def test_clean_rows_have_no_findings(run, tmp_path):
    rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
    assert _names(run("doctor", tmp_path / "rows.npy", "--json")) == {}
    assert "Nothing found" in run("doctor", tmp_path / "rows.npy").out


def test_what_is_wrong_is_counted_and_placed(run, tmp_path):
    rows, _ = planted_rows()
    rows[[7, 9]] = np.nan
    rows[11, 2] = np.inf
    rows[20] = 0
    rows[31] = rows[30]
    np.save(tmp_path / "rows.npy", rows)
    found = _names(run("doctor", tmp_path / "rows.npy", "--json"))
    assert set(found) == {
        *("not_finite", "zero", "repeated", "not_normalised", "half_precision")
    }
    assert (found["not_finite"]["count"], found["not_finite"]["first"]) == (
        3,
        [7, 9, 11],
    )
    assert found["zero"]["first"] == [20]
    assert found["repeated"]["first"] == [31]
    text = run("doctor", tmp_path / "rows.npy").out
    assert "7, 9, 11" in text


def test_half_precision_in_float32_is_seen(run, tmp_path):
    rows, _ = planted_rows()
    np.save(tmp_path / "rows.npy", rows.astype(np.float32))
    assert "half_precision" in _names(run("doctor", tmp_path / "rows.npy", "--json"))


@pytest.fixture
def amap(tmp_path):
    source, target = (rows.astype(np.float32) for rows in planted_rows())
    ja.fit_map((source, target)).save(tmp_path / "map.safetensors")
    return tmp_path / "map.safetensors"


def test_rows_for_a_map(run, files, amap):
    found = _names(run("doctor", files / "old.npy", f"--map={amap}", "--json"))
    assert set(found) == {"not_normalised", "half_precision"}
    found = _names(run("doctor", files / "new.npy", f"--map={amap}", "--json"))
    assert found["swapped"]["level"] == "problem"
    np.save(files / "other.npy", np.ones((3, 5), np.float32))
    found = _names(run("doctor", files / "other.npy", f"--map={amap}", "--json"))
    assert "width" in found


def _square_pairs(seed, count=100):
    """Rows of two models of one width, in cones about long means."""
    rng = np.random.default_rng(seed)
    models = np.random.default_rng(99)
    content = rng.normal(size=(count, 8))
    sides = [content @ models.normal(size=(8, 8)) + 9 * np.eye(8)[n] for n in (0, 3)]
    return [
        (rows / np.linalg.norm(rows, axis=1)[:, None]).astype("f4") for rows in sides
    ]


def test_the_other_side_is_known_where_widths_are_equal(run, tmp_path):
    ja.fit_map(tuple(_square_pairs(0))).save(tmp_path / "map.safetensors")
    source, target = _square_pairs(1)
    np.save(tmp_path / "source.npy", source)
    np.save(tmp_path / "target.npy", 7 * target)
    rng = np.random.default_rng(2)
    np.save(tmp_path / "other.npy", rng.normal(size=(50, 8)).astype(np.float32))
    path = tmp_path / "map.safetensors"
    for name, expected in (
        ("source", set()),
        ("target", {"swapped"}),
        ("other", {"other_space"}),
    ):
        done = run("doctor", tmp_path / f"{name}.npy", f"--map={path}", "--json")
        assert set(_names(done)) & {"swapped", "other_space"} == expected
    done = run("apply", path, tmp_path / "target.npy", tmp_path / "out.npy")
    assert done.code == 2
    assert "--force" in done.err
    swapped = (path, tmp_path / "target.npy", tmp_path / "source.npy")
    done = run("evaluate", *swapped)
    assert done.code == 2
    assert "swap" in done.err
    done = run("apply", path, tmp_path / "target.npy", tmp_path / "out.npy", "--force")
    assert done.code == 0, done.err


def _store(folder, space, rows):
    """Write a store of text rows."""
    creating = ja.EmbeddingStore.create(
        folder,
        space=space,
        examples=len(rows),
        part_examples=len(rows),
        modalities={"text": rows.shape[1]},
    )
    with creating as writer:
        names = [str(number) for number in range(len(rows))]
        writer.append({"text": rows.astype(np.float32)}, first=0, ids=names)
        writer.finish()
    return folder


def test_a_fingerprint_of_an_earlier_version_is_the_same_space(run, tmp_path):
    pair = tuple(rows.astype(np.float32) for rows in planted_rows())
    path = tmp_path / "map.safetensors"
    ja.fit_map({"text": pair}, source_space="old A", target_space="old B").save(path)
    newer = [Space("new A", older=["old A"]), Space("new B", older=["old B"])]
    stores = [
        _store(tmp_path / space, space, rows)
        for space, rows in zip(newer, pair, strict=True)
    ]
    found = _names(run("doctor", stores[0], f"--map={path}", "--json"))
    assert not set(found) & {"swapped", "other_space"}
    found = _names(run("doctor", stores[1], f"--map={path}", "--json"))
    assert "swapped" in found
    done = run("apply", path, stores[0], tmp_path / "out")
    assert done.code == 0, done.err
    done = run("evaluate", path, *stores)
    assert done.code == 0, done.err


def test_pairs_are_added_over_a_change_of_fingerprints(tmp_path):
    pair = tuple(rows.astype(np.float32) for rows in planted_rows())
    moments = ja.Anchors({"text": pair}).moments(grams=True)
    samples = {"text": Sample(*pair, np.arange(len(pair[0])))}
    newer = Space("new A", older=["old A"])
    before = KeptPairs(moments, samples, True, ("1",), "old A", "B")
    more = KeptPairs(moments, samples, True, ("2",), newer, "B")
    for one, other in ((before, more), (more, before)):
        one.save(tmp_path / "kept.safetensors")
        merged = KeptPairs.load(tmp_path / "kept.safetensors").merge(other)
        assert merged.source_space == "new A"
        assert merged.source_space.older == ("old A",)
