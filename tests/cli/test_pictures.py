# SPDX-License-Identifier: Apache-2.0
"""From pictures and two models to a map, in one command; and the demonstration."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxalign as ja
from tests import tiny_encoders
from tests.experiments.launching import child_environment

pytestmark = [pytest.mark.slow, pytest.mark.standard_promotion]
COUNT = 30


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    folders = [
        tiny_encoders.write_folder(root / one, one) for one in ("clip", "siglip")
    ]
    return ",".join(map(str, folders))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    lines = ["file_name,caption"]
    for number in range(COUNT):
        pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number:02d}.png")
        caption = tiny_encoders.CORPUS[number % len(tiny_encoders.CORPUS)].strip()
        lines.append(f"{number:02d}.png,{caption} {number}")
    (root / "captions.csv").write_text("\n".join(lines) + "\n")
    return root


def test_embed_writes_a_store_a_model(run, pictures, models, tmp_path):
    flags = (f"--models={models}", f"--out={tmp_path}", "--batch_size=8", "--json")
    done = run("embed", pictures, *flags)
    assert done.code == 0, done.err
    assert set(done.json["stores"]) == {"source", "target"}
    for folder in done.json["files"]:
        assert len(ja.EmbeddingStore.open(folder)) == COUNT
    # What is there is not embedded again.
    assert run("embed", pictures, *flags).json["stores"] == done.json["stores"]
    done = run("embed", pictures, "--models=a,b,c", f"--out={tmp_path}")
    assert done.code == 2
    assert "--models" in done.err


def test_pictures_and_two_models_give_a_map(run, pictures, models, tmp_path):
    out = tmp_path / "map.safetensors"
    done = run(
        *("fit", f"--models={models}", f"--pictures={pictures}", f"--out={out}"),
        *("--family=orthogonal", "--json"),
    )
    assert done.code == 0, done.err
    amap = ja.AlignmentMap.load(out)
    assert amap.modalities == ("image", "text")
    assert amap.source_space
    assert (tmp_path / "map.rows" / "source").is_dir()


def test_the_demonstration_says_what_it_found(run, tmp_path):
    done = run("demo", "--tiny", f"--out={tmp_path}")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) <= 14
    assert "Found: one map" in done.out
    for name in ("report.html", "results.json", "map.safetensors"):
        assert (tmp_path / name).is_file()


def test_the_console_script_in_an_empty_folder(files, tmp_path):
    """Two files to map, verdict and carried file, from outside the checkout."""
    script = shutil.which("jaxalign", path=str(Path(sys.executable).parent))
    command = [script] if script else [sys.executable, "-m", "jaxalign.cli"]

    def launch(*arguments):
        return subprocess.run(
            [*command, *arguments],
            cwd=files,
            env=child_environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    done = launch("fit", "old.npy", "new.npy", "--out=map.safetensors", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "usable"
    done = launch("apply", "map.safetensors", "old.npy", "carried.npy")
    assert done.returncode == 0, done.stderr
    assert np.load(files / "carried.npy").shape == (120, 12)
    done = launch("fit", "old.npy", "nowhere.npy")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    done = launch("doctor", "old.npy", "--json")
    assert json.loads(done.stdout)["kind"] == "npy"
