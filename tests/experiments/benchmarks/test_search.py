# SPDX-License-Identifier: Apache-2.0
"""The benchmark of searches at toy size: all sections run, and say what was asked."""

import json

import pytest

from tests.experiments.launching import launch_here


@pytest.mark.slow
def test_every_section_runs_at_toy_size(tmp_path):
    done = launch_here(
        "experiments.benchmarks.search",
        "--tiny",
        "--rounds=1",
        f"--workdir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    lines = json.loads((tmp_path / "benchmark.json").read_text())["lines"]
    assert all(line["seconds"] > 0 for line in lines)
    asked = [line["wanted"] or line["at_most"] for line in lines]
    assert [bar for bar in asked if bar is not None] == [1.5, 1.0, 1.0, 0.6, 0.6]
