# SPDX-License-Identifier: Apache-2.0
"""From files of pairs to a map with its verdict, and more pairs later."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.errors import ArgumentError
from jaxalign.maps.kept_pairs import KeptPairs, Sample, pairs_path
from jaxalign.trust.verdict import Verdict
from jaxalign.workflows import fit as fit_module
from jaxalign.workflows import pairs as pairs_module
from tests.cli.conftest import D_SOURCE, D_TARGET, planted_rows

KEYS = {
    *("verdict", "sentence", "modality", "rows_read", "rows_used", "rows_skipped"),
    *("heldout", "files", "versions"),
}


def _fit(run, files, *more, target="new.npy", out="map.safetensors"):
    return run("fit", files / "old.npy", files / target, f"--out={files / out}", *more)


@pytest.mark.parametrize(
    "more", [["--family=orthogonal"], pytest.param([], marks=pytest.mark.slow)]
)
def test_two_files_give_a_verdict_a_map_and_its_moments(run, files, more):
    done = _fit(run, files, "--json", *more)
    assert done.code == 0, done.err
    found = done.json
    assert set(found) >= KEYS
    assert found["verdict"] == "usable"
    assert found["sentence"].startswith("USABLE: ")
    assert (found["rows_read"], found["rows_used"], found["rows_skipped"]) == (
        *(120, 120),
        0,
    )
    heldout = found["heldout"]
    assert heldout["top1"] > 10 * heldout["shuffled"]["top1"]
    amap = ja.AlignmentMap.load(files / "map.safetensors")
    assert (amap.d_source, amap.d_target) == (D_SOURCE, D_TARGET)
    assert amap.modalities == ("rows",)
    assert amap.card["verdict"]["word"] == "usable"
    # It was fitted on unit rows.
    np.testing.assert_allclose(np.asarray(amap.numbers.source_norms["rows"]), 1, 1e-5)
    kept = KeptPairs.load(pairs_path(files / "map.safetensors"))
    assert int(kept.moments["rows"].rows) == 120


def test_shuffled_pairs_are_not_usable_and_nothing_is_written(run, files):
    done = _fit(
        run,
        files,
        "--require=usable",
        "--json",
        target="shuffled.npy",
        out="no/m.safetensors",
    )
    assert done.code == 3
    assert done.json["verdict"] in ("none", "too_few")
    assert done.json["files"] == []
    assert not (files / "no").exists()


def test_bad_rows_are_left_out_and_counted(run, files):
    # As many good ones as in other tests: the programs are the same.
    source, target = planted_rows(count=122)
    source[3], target[9] = np.nan, 0
    np.save(files / "old.npy", source)
    np.save(files / "new.npy", target)
    done = _fit(run, files)
    assert done.code == 2
    assert "--skip_bad" in done.err
    done = _fit(run, files, "--skip-bad", "--family=orthogonal")
    lines = done.out.splitlines()
    assert lines[0].startswith("USABLE: ")
    assert len(lines) <= 15
    assert "120 pairs of 122" in done.out
    assert "2 left out" in done.out


@pytest.mark.slow
def test_norms_are_kept_where_asked(run, files):
    assert _fit(run, files, "--normalize=none").code == 0
    amap = ja.AlignmentMap.load(files / "map.safetensors")
    assert float(amap.numbers.source_norms["rows"][1]) > 5


@pytest.mark.slow
def test_pairs_of_two_modalities(run, files):
    for name, seed in (("text_old", 5), ("text_new", 5)):
        rows = planted_rows(seed)[name.endswith("new")]
        np.save(files / f"{name}.npy", rows)
    done = run(
        "fit",
        f"--pair=image:{files}/old.npy:{files}/new.npy",
        f"--pair=text:{files}/text_old.npy:{files}/text_new.npy",
        f"--out={files}/map.safetensors",
        "--family=orthogonal",
        "--fit_on=image",
        "--json",
    )
    assert done.code == 0, done.err
    amap = ja.AlignmentMap.load(files / "map.safetensors")
    assert amap.modalities == ("image", "text")
    assert amap.scorer is None
    assert amap.card["fit"]["fit_on"] == "image"


@pytest.mark.slow
def test_more_pairs_give_the_map_of_all_pairs(run, files):
    source, target = planted_rows()
    for name, part in (("1", slice(0, 70)), ("2", slice(70, None))):
        np.save(files / f"old{name}.npy", source[part])
        np.save(files / f"new{name}.npy", target[part])
    path = files / "parts.safetensors"
    first = ("fit", files / "old1.npy", files / "new1.npy", "--family=orthogonal")
    assert run(*first, f"--out={path}").code == 0
    before = path.read_bytes()
    more = (files / "old2.npy", files / "new2.npy", "--family=orthogonal")
    done = run("fit", *more, f"--add={path}", "--json")
    assert done.code == 0, done.err
    assert _fit(run, files, "--family=orthogonal").code == 0
    whole = ja.AlignmentMap.load(files / "map.safetensors")
    joined = ja.AlignmentMap.load(path)
    np.testing.assert_allclose(joined.matrix, whole.matrix, atol=1e-5)
    assert joined.card["fit"]["modalities"]["rows"]["anchors"] == 120
    # The same files again would count twice.
    done = run("fit", *more, f"--add={path}")
    assert done.code == 2
    assert "--add" in done.err
    assert path.read_bytes() != before


@pytest.fixture
def grown(files, monkeypatch):
    """A map with what is kept beside it, and more pairs: `more_old`, `more_new`."""
    monkeypatch.setattr("warnings.filters", [])  # warnings are shown, not raised
    source, target = planted_rows(seed=8)
    np.save(files / "more_old.npy", source)
    np.save(files / "more_new.npy", target)

    def fit(*modalities, path=files / "map.safetensors"):
        pairs = tuple(
            rows / np.linalg.norm(rows, axis=1, keepdims=True)
            for rows in map(np.float32, planted_rows())
        )
        anchors = ja.Anchors(dict.fromkeys(modalities, pairs))
        told = {"rows": {"normalized": True}, "verdict": {"word": "usable"}}
        ja.fit_map(anchors, card=told).save(path)
        samples = {name: Sample(*pairs, np.arange(120)) for name in modalities}
        kept = KeptPairs(anchors.moments(grams=True), samples, True, ("1",))
        kept.save(pairs_path(path))
        return path

    return fit


@pytest.fixture
def merged(monkeypatch):
    """What would be fitted: a fit ends there."""
    found = []

    def stop(kept, **options):
        found.append(kept)
        raise ArgumentError("fit", "nothing", "pairs")

    monkeypatch.setattr(fit_module, "fit_kept", stop)
    return found


def _add(run, files, path, *more, source="more_old.npy", target="more_new.npy"):
    return run(
        *("fit", files / source, files / target, f"--add={path}"),
        *("--family=orthogonal", "--json", *more),
    )


def test_lone_matrices_take_the_one_modality_of_the_map(run, files, grown, merged):
    path = grown("image")
    assert _add(run, files, path).code == 2
    (kept,) = merged
    assert {name: int(of.rows) for name, of in kept.moments.items()} == {"image": 240}
    path = grown("image", "text")
    before = path.read_bytes()
    done = _add(run, files, path)
    assert done.code == 2
    assert "--modality=" in done.err
    assert path.read_bytes() == before


def test_pairs_that_a_good_map_does_not_fit_are_not_added(
    run, files, grown, merged, monkeypatch
):
    path = grown("rows")
    before = path.read_bytes()
    np.save(files / "mixed.npy", np.roll(np.load(files / "more_new.npy"), 7, axis=0))
    other = np.random.default_rng(4).normal(size=(120, D_TARGET))
    np.save(files / "other.npy", other.astype(np.float32))
    monkeypatch.setattr(fit_module, "read_pairs", None)  # found before the pass
    for target, said in (("mixed.npy", "check that row i"), ("other.npy", "TARGET")):
        done = _add(run, files, path, target=target)
        assert done.code == 2
        assert said in done.err
        assert "--force" in done.err
    monkeypatch.undo()
    assert not merged
    assert path.read_bytes() == before


def test_a_lower_verdict_is_pointed_out(run, files, grown, monkeypatch):
    path = grown("rows")
    np.save(files / "mixed.npy", np.roll(np.load(files / "more_new.npy"), 7, axis=0))

    def fit_kept(kept, **options):
        assert int(kept.moments["rows"].rows) == 240
        verdict = Verdict("weak", "WEAK: so", "rows", 240, None)
        amap = ja.AlignmentMap.load(path)
        return amap, SimpleNamespace(reason="", candidate=amap), verdict

    monkeypatch.setattr(fit_module, "fit_kept", fit_kept)
    monkeypatch.setattr(fit_module, "facts_of", lambda found: {})
    done = _add(run, files, path, "--force", target="mixed.npy")
    assert done.code == 0, done.err
    assert "warning: " in done.err
    assert "usable" in done.err


@pytest.mark.slow
def test_many_pairs_are_fitted_from_their_moments(run, files, monkeypatch):
    monkeypatch.setattr(
        pairs_module, "draw_sample", lambda rows, most: np.arange(0, rows, 2)
    )
    done = _fit(run, files, "--family=orthogonal", "--json")
    assert done.code == 0, done.err
    assert done.json["rows_used"] == 120
    amap = ja.AlignmentMap.load(files / "map.safetensors")
    source, target = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in map(np.float32, planted_rows())
    )
    whole = ja.fit_map((source, target))
    np.testing.assert_allclose(amap.matrix, whole.matrix, atol=1e-4)
    assert amap.card["fit"]["modalities"]["rows"]["anchors"] == 120
    assert len(amap.encoded["rows"]["source"]) == 60
    np.testing.assert_array_equal(amap.numbers.source_norms["rows"], np.ones(3))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["old.npy"], "SOURCE"),
        (["old.npy", "old.npy"], "both sides"),
        (["old.npy", "new.npy", "--family=nonsense"], "--family"),
        (["old.npy", "new.npy", "--purpose=nonsense"], "--purpose"),
        (["old.npy", "new.npy", "--require=nonsense"], "--require"),
        (["old.npy", "new.npy", "--out=map.npy"], "--out"),
        (["old.npy", "new.npy", "--out=old.npy/map.safetensors"], "--out"),
        (["old.npy", "new.npy", "--add=nowhere.safetensors"], "nowhere"),
        (["--pair=image:old.npy"], "--pair"),
        (["--models=a,b"], "--pictures"),
        (["--models=a, a", "--pictures=."], "twice"),
        (["--models=.,./", "--pictures=."], "twice"),
        (["old.npy", "new.npy", "--fit_on=image"], "--fit_on"),
        (["old.npy", "new.npy", "--force"], "--force"),
        (["old.npy", "new.npy", "--purpose=cross"], "--purpose"),
        (["old.npy", "new.npy", "--purpose=zero_shot"], "--purpose"),
        (["old.npy", "new.npy", "--normalize=l1"], "--normalize"),
    ],
    ids=" ".join,
)
def test_mistakes_come_before_any_pass(run, files, monkeypatch, arguments, said):
    monkeypatch.chdir(files)
    monkeypatch.setattr(pairs_module, "paired_anchors", None)
    done = run("fit", *arguments)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert said in line


def test_evaluate_tells_new_pairs_from_those_of_the_fit(run, files):
    assert _fit(run, files, "--family=orthogonal").code == 0
    path = files / "map.safetensors"
    source, target = planted_rows(seed=3)
    np.save(files / "a.npy", source)
    np.save(files / "b.npy", target)
    done = run("evaluate", path, files / "a.npy", files / "b.npy", "--json")
    assert done.code == 0, done.err
    assert set(done.json) >= KEYS
    assert done.json["verdict"] == "usable"
    amap = ja.AlignmentMap.load(path)
    units = [
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in map(np.float32, (source, target))
    ]
    left = np.sum((np.asarray(amap(units[0])) - units[1]) ** 2)
    spread = np.sum((units[1] - np.asarray(amap.numbers.target_means["rows"])) ** 2)
    assert done.json["heldout"]["explained"] == pytest.approx(1 - left / spread, 1e-3)
    np.save(files / "b.npy", np.roll(target, 7, axis=0))
    done = run(
        "evaluate", path, files / "a.npy", files / "b.npy", "--require=weak", "--json"
    )
    assert (done.code, done.json["verdict"]) == (3, "none")
    done = run("evaluate", path, files / "b.npy", files / "a.npy")
    assert done.code == 2
    assert "SOURCE" in done.err


@pytest.mark.slow
def test_the_fit_of_a_store_keeps_its_spaces(run, tmp_path):
    source, target = planted_rows()
    for name, rows in (("source", source), ("target", target)):
        folder = tmp_path / name
        with ja.EmbeddingStore.create(
            folder,
            space=f"{name} space",
            examples=len(rows),
            part_examples=50,
            modalities={"text": rows.shape[1]},
        ) as writer:
            for first in range(0, len(rows), 50):
                part = rows[first : first + 50].astype(np.float32)
                names = [f"id {first + n}" for n in range(len(part))]
                writer.append({"text": part}, first=first, ids=names)
            writer.finish()
    out = tmp_path / "map.safetensors"
    references = (tmp_path / "source", tmp_path / "target", f"--out={out}")
    done = run("fit", *references, "--family=orthogonal", "--json")
    assert done.code == 0, done.err
    amap = ja.AlignmentMap.load(out)
    assert (amap.source_space, amap.target_space) == ("source space", "target space")
    json.dumps(amap.card)


def test_rows_that_were_picked_pair_with_new_ones(run, files):
    """An old file, the numbers that `pick` gave, and new rows of these alone."""
    source, target = planted_rows(count=160)
    np.save(files / "old.npy", source)
    numbers = files / "numbers.txt"
    assert run("pick", files / "old.npy", "--n=120", f"--out={numbers}").code == 0
    picked = np.loadtxt(numbers, dtype=int)
    np.save(files / "some.npy", target[picked])
    done = _fit(
        run,
        files,
        f"--picked={numbers}",
        "--family=orthogonal",
        "--json",
        target="some.npy",
    )
    assert done.code == 0, done.err
    assert (done.json["rows_used"], done.json["verdict"]) == (120, "usable")


@pytest.mark.parametrize(
    ("word", "begins"),
    [("usable", "Use: "), ("none", "Do not use"), ("too_few", "Warning: ")],
)
def test_a_map_is_offered_for_use_if_it_can_be_used(word, begins):
    line = fit_module.use_line(word, Path("map.safetensors"))
    assert line.startswith(begins)
    assert ("--add=map.safetensors" in line) == (word == "too_few")
