# SPDX-License-Identifier: Apache-2.0
"""The sweep over few anchors, at toy size, and its draws of classes."""

import json

import numpy as np
import pytest

import jaxalign as ja
from experiments import few_anchors
from tests.experiments.launching import launch_here


def test_draws_are_nested_and_never_meet_the_unseen():
    labels = np.repeat(np.arange(20), 3)
    draws = few_anchors.draw_classes(labels, counts=(2, 5, 90), seeds=(0, 1))
    assert [len(d.anchors) for d in draws] == [2, 5, 10, 2, 5, 10]
    for first, second in ((0, 1), (1, 2), (3, 4)):
        assert set(draws[first].anchors) <= set(draws[second].anchors)
    for draw in draws:
        assert not set(draw.anchors) & set(draw.unseen)
    assert set(draws[0].anchors) != set(draws[3].anchors)


@pytest.mark.slow
def test_tiny_run_writes_curves_of_real_fits(data_dir, tmp_path):
    done = launch_here(
        "experiments.few_anchors",
        "--tiny",
        f"--workdir={tmp_path}/run",
        f"--data_dir={data_dir}",
    )
    assert done.returncode == 0, done.stderr
    assert "reach nine tenths" in done.stdout
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    cosines = {
        (row["table"], row["method"], row["seed"]): row["value"]
        for row in rows
        if row["metric"] == "image_cosine"
    }
    counts = {key[1] for key in cosines}
    assert {"2 classes", "3 classes"} < counts
    assert {key[0] for key in cosines} == set(few_anchors.TABLES)
    assert len(cosines) == 4 * len(counts) * 2
    # More classes carry unseen pictures better, on average over the draws.
    unseen = {
        name: np.mean(
            [v for k, v in cosines.items() if k[:2] == ("unseen classes", name)]
        )
        for name in counts
    }
    most = max(counts, key=lambda name: int(name.split()[0]))
    assert unseen["2 classes"] < unseen[most]
    amap = ja.AlignmentMap.load(tmp_path / "run" / "map.safetensors")
    assert amap.card["fit"]["scale"] == "none"
    assert "<svg" in (tmp_path / "run" / "report.html").read_text()
