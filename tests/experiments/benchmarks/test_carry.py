# SPDX-License-Identifier: Apache-2.0
"""The benchmark of carrying at toy size: all sections run, and say what was asked."""

import json

import pytest

from tests.experiments.launching import launch_here


@pytest.mark.slow
def test_every_section_runs_at_toy_size(tmp_path):
    done = launch_here(
        "experiments.benchmarks.carry",
        "--tiny",
        "--rounds=1",
        f"--workdir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    lines = json.loads((tmp_path / "benchmark.json").read_text())["lines"]
    assert [line["wanted"] for line in lines if line["wanted"]] == [0.6] * 3
    (memory,) = (line for line in lines if line["at_most"])
    assert memory["ratio"] > 0
