# SPDX-License-Identifier: Apache-2.0
"""Searches between two models from the command line: the public files, and own rows."""

import json

import numpy as np
import pytest

from experiments.real_pairs import SETS
from tests.experiments.launching import launch_here
from tests.search.cones import cone_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    for name, rows in zip(("old", "new"), cone_rows(90, 12, decay=0.3), strict=True):
        np.save(folder / f"{name}.npy", rows)
    return folder


def test_own_rows_are_compared_in_both_directions(own, tmp_path):
    done = launch_here(
        "experiments.real_pairs",
        "--tiny",
        f"--source_rows={own}/old.npy",
        f"--target_rows={own}/new.npy",
        "--anchors=20",
        f"--workdir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    assert "your rows" in done.stdout
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert (row["k"], len(row["draws"])) == (20, 2)
    for draw in row["draws"]:
        assert set(draw) == {"paper", "default", "chosen"}
        assert draw["default"]["target"] >= draw["paper"]["target"]


def test_the_public_files_are_named_and_read(own, tmp_path):
    done = launch_here("experiments.real_pairs", f"--rows={tmp_path}")
    assert done.returncode == 2
    assert all(one.file in done.stderr for one in SETS)
    rows = np.load(own / "old.npy").astype(np.float16)
    np.savez(tmp_path / "poster_images.npz", clip_b32=rows, siglip_base=rows[:, ::-1])
    flags = ("--tiny", f"--rows={tmp_path}", f"--workdir={tmp_path}/run")
    done = launch_here("experiments.real_pairs", *flags)
    assert done.returncode == 0, done.stderr
    assert "horror-metrics-pipeline (MIT)" in done.stdout
    assert "Left out" in done.stderr


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ([], "--rows"),
        (["--rows=a", "--source_rows=b.npy"], "--rows"),
        (["--source_rows=none.npy"], "--source_rows"),
        (["--source_rows={own}/old.npy"], "--target_rows"),
        (
            ["--source_rows={own}/old.npy", "--target_rows={own}/new.npy"]
            + ["--anchors=90"],
            "--anchors",
        ),
    ],
)
def test_mistakes_name_the_flag(own, flags, match):
    given = [flag.format(own=own) for flag in flags]
    done = launch_here("experiments.real_pairs", *given)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert match in done.stderr
