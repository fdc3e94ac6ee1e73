# SPDX-License-Identifier: Apache-2.0
"""The README's example runs as it stands there, and its promises are kept."""

import re
from pathlib import Path

import jaxalign as ja

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs_and_finds_what_it_asks_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(code, str(README), "exec"), {})
    assert (tmp_path / "map.safetensors").is_file()
    assert capsys.readouterr().out.startswith("[[")


def test_the_names_that_it_mentions_exist():
    names = set(re.findall(r"`?ja\.(\w+)", README.read_text()))
    assert names
    assert names <= set(ja._HOMES)


def test_the_glossary_has_no_name_for_two_things():
    glossary = README.read_text().split("## Words\n")[1].split("\n## ")[0]
    words = re.findall(r"^\| ([^|]+) \| ", glossary, re.MULTILINE)
    flat = [word.strip() for line in words for word in line.split(",")]
    assert len(flat) == len(set(flat))
