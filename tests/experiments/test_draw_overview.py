# SPDX-License-Identifier: Apache-2.0
"""The README's picture is drawn from a run, at toy size here."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def test_the_picture_is_drawn(tmp_path):
    command = [sys.executable, "-m", "experiments.draw_overview", "--tiny"]
    done = subprocess.run(
        [*command, f"--workdir={tmp_path}/out", f"--data_dir={tmp_path}/data"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "overview.png") as picture:
        width, height = picture.size
        assert width > height > 500
        colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
    # Emoji in colour, not a blank page.
    assert len(colours) > 500
