# SPDX-License-Identifier: Apache-2.0
"""The main job between any two families, whatever the widths of their spaces."""

import json

import numpy as np
import pytest

import jaxalign as ja
from tests import tiny_encoders
from tests.experiments.launching import launch_here

# A narrower target; the shipped pair is of CLIP and SigLIP, and of one width.
WIDTHS = {"flava": 24, "siglip": 16}
# The MLP is trained by optax.
pytestmark = [pytest.mark.slow, pytest.mark.standard_promotion]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Tiny random checkpoints."""
    root = tmp_path_factory.mktemp("families")
    for family, dim in WIDTHS.items():
        # Room for whole captions: their first tokens are all the same.
        tiny_encoders.write_folder(root / family, family, dim=dim, length=48)
    return root


def test_a_map_is_fitted_between_two_families(root, data_dir):
    source, target = WIDTHS
    workdir = root / f"{source}-{target}"
    done = launch_here(
        "experiments.align",
        "--tiny",
        f"--source={root / source}",
        f"--target={root / target}",
        f"--workdir={workdir}",
        f"--data_dir={data_dir}",
    )
    assert done.returncode == 0, done.stderr
    assert "held-out classes" in done.stdout
    assert (workdir / "report.html").is_file()
    assert json.loads((workdir / "results.json").read_text())["rows"]
    amap = ja.AlignmentMap.load(workdir / "map.safetensors")
    models = [ja.load_encoders(root / family) for family in (source, target)]
    assert [amap.source_space, amap.target_space] == [m.space for m in models]
    shape = (WIDTHS[target], WIDTHS[source])
    assert amap.rotation.shape == shape
    singular = np.linalg.svd(np.asarray(amap.rotation), compute_uv=False)
    np.testing.assert_allclose(singular, 1.0, atol=1e-5)
    texts = models[0].embed_texts(["a red apple", "a fish"])
    assert amap(texts, "text", space=models[0].space).shape == (2, WIDTHS[target])
