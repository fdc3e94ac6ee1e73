# SPDX-License-Identifier: Apache-2.0
"""The README's example runs as it stands there, and its promises are kept."""

import itertools
import json
import operator
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jaxalign as ja
from jaxalign.cli.main import main
from tests.search.cones import cone_rows


def example(of: str) -> str:
    """Return the Python block with these words."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (found,) = (block for block in blocks if of in block)
    return found


README = Path(__file__).parents[1] / "README.md"


def commands(first: str) -> list[list[str]]:
    """Arguments of the `jaxalign` commands of the console block that begins so."""
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    (found,) = (block for block in blocks if block.startswith(f"$ jaxalign {first}"))
    lines = re.findall(r"^\$ jaxalign (.*)$", found, re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.slow
@pytest.mark.usefixtures("no_shape_hook")
def test_the_example_runs_and_finds_what_it_asks_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    exec(compile(example("load_encoders"), str(README), "exec"), {})
    assert (tmp_path / "map.safetensors").is_file()
    verdict, found = capsys.readouterr().out.splitlines()
    assert verdict.startswith("USABLE: ")
    assert found == "['penguin', 'taxi', 'snowman']"
    assert f"\n{found}\n```" in README.read_text()


def two_models(rng, count, bad=0):
    """Unnormalised float16 rows of two models, `bad` of them NaN on either side."""
    models = np.random.default_rng(99)
    fall = np.arange(1, 513) ** -0.6
    turn = np.linalg.qr(models.standard_normal((768, 512)))[0]
    content = fall * rng.standard_normal((count, 512))
    noisy = content + 0.3 * fall * rng.standard_normal((count, 512))
    source = 3 * (content + 0.3 * models.standard_normal(512))
    target = 7 * (noisy @ turn.T + 0.2 * models.standard_normal(768))
    for side in (source, target):
        side[rng.permutation(count)[:bad]] = np.nan
    return source.astype(np.float16), target.astype(np.float16)


@pytest.mark.slow
@pytest.mark.usefixtures("no_shape_hook")
def test_two_files_to_a_verdict_a_map_and_a_carried_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source, target = two_models(np.random.default_rng(0), 5000, bad=7)
    np.save("old.npy", source)
    np.save("new.npy", target)
    for arguments in commands("fit old.npy"):
        assert main(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("USABLE: ")
    assert "4,986 pairs of 5,000" in out
    carried = np.load("carried.npy")
    assert (carried.shape, carried.dtype) == ((5000, 768), np.float16)
    bad = np.isnan(source).any(axis=1)
    np.testing.assert_array_equal(np.isnan(carried).any(axis=1), bad)
    np.testing.assert_allclose(
        np.linalg.norm(carried[~bad].astype(np.float32), axis=1), 1.0, atol=2e-3
    )
    for name, rows in (
        ("shuffled", np.random.default_rng(1).permutation(target)),
        ("unrelated", two_models(np.random.default_rng(2), 5000)[1]),
    ):
        np.save("other.npy", rows)
        required = ["fit", "old.npy", "other.npy", "--require=usable", "--json"]
        assert main([*required, f"--out={name}.safetensors"]) == 3
        assert json.loads(capsys.readouterr().out)["verdict"] == "none"
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        "map.moments.safetensors",
        "map.safetensors",
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("no_shape_hook")
def test_a_foreign_folder_to_another(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    counts = {"store": (400, 0, 300), "sample": (500,), "test": (200,)}
    for name, parts in counts.items():
        source, target = two_models(rng, sum(parts))
        write_foreign(tmp_path / f"old_{name}", source, parts)
        if name != "store":
            write_foreign(tmp_path / f"new_{name}", target, (sum(parts),))
    for arguments in commands("doctor old_store"):
        assert main(arguments) == 0, arguments
    assert capsys.readouterr().out.count("USABLE: ") == 2
    picked = (tmp_path / "ids.txt").read_text().split()
    assert len(set(picked)) == 500
    assert set(picked) <= {f"{row}.jpg" for row in range(700)}
    old, new = (tmp_path / f"{age}_store" for age in ("old", "new"))
    # Other readers fail on files without rows, so that an empty part has none.
    files = {path.relative_to(new).name for path in new.rglob("*.parquet")}
    assert files == {"metadata_0.parquet", "metadata_2.parquet"}
    rows = ja.rows.open_rows(new, id_column="image_path")
    assert rows.rows["image"].shape == (700, 768)
    expected = ja.rows.open_rows(old, id_column="image_path")
    np.testing.assert_array_equal(rows.ids(), expected.ids())


def write_foreign(folder, rows, parts):
    """A folder as clip-retrieval writes it, with metadata that nobody interprets."""
    starts = np.cumsum([0, *parts])
    for kind in ("img_emb", "metadata"):
        (folder / kind).mkdir(parents=True)
    for part, (first, last) in enumerate(itertools.pairwise(starts)):
        np.save(folder / f"img_emb/img_emb_{part}.npy", rows[first:last])
        table = pa.table(
            {
                "image_path": [f"{row}.jpg" for row in range(first, last)],
                "NSFW": [None if row % 3 else 0.5 for row in range(first, last)],
            }
        )
        pq.write_table(table, folder / f"metadata/metadata_{part}.parquet")


@pytest.mark.standard_promotion
def test_a_module_with_one_orthonormal_weight_trains(capsys):
    names = {"__name__": "readme"}
    exec(compile(example("optax"), str(README), "exec"), names)
    assert names["value"] < 0.1
    turn = np.asarray(names["turn"])
    assert np.abs(turn.T @ turn - np.eye(16)).max() < 20 * np.finfo(np.float32).eps
    assert capsys.readouterr().out.startswith("loss 0.0")


@pytest.mark.parametrize("rows_are", ["source", "target"])
def test_searches_in_numpy_alone_are_those_of_the_library(
    tmp_path, monkeypatch, rows_are
):
    monkeypatch.chdir(tmp_path)
    source, target = cone_rows(200, 24, decay=0.3)
    pairs = {"text": (source[:20], target[:20])}
    amap = ja.fit_map(pairs, scorer=ja.LikelihoodRatio())
    amap.save("scored.safetensors")
    names = {}
    exec(compile(example("rows_for_index"), str(README), "exec"), names)
    sides = {"source": source[20:], "target": target[20:]}
    asks = {"source": "target", "target": "source"}[rows_are]
    index = ja.search.prepare(amap, sides[rows_are], rows_are=rows_are)
    queries = names["queries_for_index"](sides[asks], asks)
    found = queries @ names["rows_for_index"](sides[rows_are], rows_are).T
    expected = np.asarray(index.encode(sides[asks])) @ np.asarray(index.vectors).T
    assert np.abs(found - expected).max() <= 1e-5 * np.ptp(expected)


def test_the_names_of_the_stiefel_room_exist():
    names = set(re.findall(r"`?ja\.(\w+(?:\.[A-Za-z]\w*)*)", README.read_text()))
    assert names
    for name in names:
        operator.attrgetter(name)(ja)


def test_the_glossary_has_no_name_for_two_things():
    glossary = README.read_text().split("## Words\n")[1].split("\n## ")[0]
    words = re.findall(r"^\| ([^|]+) \| ", glossary, re.MULTILINE)
    flat = [word.strip() for line in words for word in line.split(",")]
    assert len(flat) == len(set(flat))
