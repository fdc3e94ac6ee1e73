# SPDX-License-Identifier: Apache-2.0
"""How fast pictures on disk become rows in a store, beside what the machine could do.

    python -m experiments.benchmarks.streaming

Encoding alone, preprocessing alone and the whole way take turns in one process. On
CPU the ceiling is cores / (encoding core-seconds + preprocessing core-seconds), on an
accelerator the encoder's own rate. Then, in processes of their own: eight virtual
devices (compilations, collectives, work of each), and peak memory against the number
of pictures.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from absl import flags
from flax import nnx
from PIL import Image
from tqdm import tqdm
from transformers import CLIPConfig

from experiments import embed, launch
from experiments.benchmarks.encoders import Case
from jaxalign.atomic_files import write_atomically
from jaxalign.data import catalog
from jaxalign.embedding.inputs import PrepareInputs
from jaxalign.encoders.checkpoint import save_model
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.families import find_family
from jaxalign.encoders.pretrained import load_encoders
from jaxalign.report.results import library_versions

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Counted runs of each.", 1)
_PICTURES = flags.DEFINE_integer("pictures", 512, "Pictures of a whole run.", 1)

PICTURE_SIZE = (500, 375)
"""Pixels; that of most of the paper's pictures."""


@dataclasses.dataclass(frozen=True)
class Seconds:
    """What one run took, for one picture."""

    wall: float
    cores: float


def write_pictures(folder: Path, count: int) -> Path:
    """Write JPEGs of noise on soft colours, and their captions; return the folder."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    width, height = PICTURE_SIZE
    lines = ["file_name,caption,label"]
    for number in range(count):
        soft = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
        pixels = np.asarray(soft.resize(PICTURE_SIZE, Image.Resampling.BICUBIC), int)
        noisy = pixels + rng.integers(-12, 12, (height, width, 3))
        name = f"{number:06d}.jpg"
        picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        picture.save(folder / name, quality=90)
        lines.append(f"{name},picture {number},class {number % 10}")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_model(folder: Path, config: CLIPConfig) -> Encoders:
    """Write a random model with CLIP's image preprocessing; load it."""
    model = find_family("clip").build(config, rngs=nnx.Rngs(0))
    save_model(folder, nnx.state(model), config)
    size = config.vision_config.image_size
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "do_convert_rgb": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return load_encoders(folder)


def measure(call: Callable[[], object], pictures: int) -> Seconds:
    """Run once; core-seconds are those of all threads of this process."""
    wall, cores = time.perf_counter(), time.process_time()
    call()
    return Seconds(
        (time.perf_counter() - wall) / pictures, (time.process_time() - cores) / pictures
    )
