# SPDX-License-Identifier: Apache-2.0
"""The README's picture is drawn from a run, at toy size here."""

import numpy as np
import pytest
from PIL import Image

from tests.experiments.launching import launch_here

pytestmark = pytest.mark.slow


def test_the_picture_is_drawn(data_dir, tmp_path):
    flags = [f"--workdir={tmp_path}/out", f"--data_dir={data_dir}"]
    done = launch_here("experiments.draw_overview", "--tiny", *flags)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "overview.png") as picture:
        width, height = picture.size
        assert width > height > 500
        colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
    # Emoji in colour, not a blank page.
    assert len(colours) > 500
