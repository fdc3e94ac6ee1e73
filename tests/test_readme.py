# SPDX-License-Identifier: Apache-2.0
"""The README's example runs as it stands there, and its promises are kept."""

import operator
import re
from pathlib import Path

import numpy as np
import pytest

import jaxalign as ja
from tests.search.cones import cone_rows


def example(of: str) -> str:
    """Return the Python block with these words."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (found,) = (block for block in blocks if of in block)
    return found


README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs_and_finds_what_it_asks_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    exec(compile(example("load_encoders"), str(README), "exec"), {})
    assert (tmp_path / "map.safetensors").is_file()
    assert capsys.readouterr().out.startswith("[[")


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
