# SPDX-License-Identifier: Apache-2.0
"""The benchmark of streaming at toy size: what does not depend on speed must hold."""

import json

import pytest

from tests.experiments.launching import launch_here


@pytest.mark.slow
def test_the_benchmark_runs_at_toy_size(tmp_path):
    done = launch_here(
        "experiments.benchmarks.streaming",
        "--tiny",
        f"--workdir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["streams"]) == 2
    for stream in results["streams"]:
        assert stream["pictures_per_second"] > 0
        assert len(stream["milliseconds"]) >= 4
    devices = results["devices"]
    assert devices["devices"] == 8
    for partition in ("pjit", "pmap"):
        found = devices[partition]
        assert found["compilations of a second run"] == 0
        assert found["collectives in the compiled text"] == 0
        assert found["work of each device"] == pytest.approx(1 / 8, rel=0.05)
    assert devices["pjit"]["compilations of a run with a ragged tail"] == 2
    assert all(row["peak_MB"] > 100 for row in results["memory"])
