# SPDX-License-Identifier: Apache-2.0
"""The benchmark of closed forms at toy size: what does not depend on speed holds."""

import json

import pytest

from experiments.benchmarks.lines import Line, format_lines
from tests.experiments.launching import launch_here


@pytest.mark.slow
def test_every_section_runs_at_toy_size(tmp_path):
    done = launch_here(
        "experiments.benchmarks.procrustes",
        "--tiny",
        "--rounds=1",
        f"--workdir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    lines = json.loads((tmp_path / "benchmark.json").read_text())["lines"]
    assert len({line["section"] for line in lines}) >= 8
    assert all(line["seconds"] is None or line["seconds"] > 0 for line in lines)
    # 1, 2, 4 and 8 devices meet once each.
    reduced = [line["note"] for line in lines if "all-reduce of" in line["note"]]
    assert len(reduced) == 4
    assert all(note.startswith("1 all-reduce") for note in reduced)
    # Rows are right, if not fast: the rotation is SciPy's.
    gaps = [line["note"] for line in lines if "|dQ|" in line["note"]]
    assert gaps
    assert all(float(note.removeprefix("|dQ| ")) < 1e-3 for note in gaps)


def test_a_line_says_whether_its_ratio_is_as_asked_for():
    fast = Line("a", "fast", 1.0, ratio=2.0, wanted=1.5)
    slow = Line("a", "slow", 1.0, ratio=1.0, wanted=1.5)
    large = Line("b", "large", None, ratio=2.5, at_most=2.0)
    assert (fast.verdict, slow.verdict) == ("ok, >= 1.5", "MISSED, >= 1.5")
    assert large.verdict == "MISSED, <= 2"
    text = format_lines([fast, slow, large])
    assert text.count("\na\n") == text.count("\nb\n") == 1
