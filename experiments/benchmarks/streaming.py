# SPDX-License-Identifier: Apache-2.0
"""How fast pictures on disk become rows in a store, beside what the machine could do.

    python -m experiments.benchmarks.streaming

Encoding alone, preprocessing alone and the whole way take turns in one process. On
CPU the ceiling is cores / (encoding core-seconds + preprocessing core-seconds), on an
accelerator the encoder's own rate. Then, in processes of their own: eight virtual
devices (compilations, collectives, work of each), and peak memory against the number
of pictures.
"""

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from PIL import Image
from tqdm import tqdm

from experiments import embed, launch
from experiments.benchmarks.launch_benchmark import ROUNDS
from experiments.benchmarks.models import clip_config, write_clip
from jaxalign.atomic_files import write_atomically
from jaxalign.data import catalog
from jaxalign.data.ordered import ordered_batches
from jaxalign.embedding.inputs import PrepareInputs
from jaxalign.encoders.configs import vision_config
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.partition import PARTITIONS
from jaxalign.encoders.pretrained import load_encoders
from jaxalign.processors import cpu_count
from jaxalign.report.results import library_versions
from jaxalign.sharding import data_mesh

_PICTURES = flags.DEFINE_integer("pictures", 512, "Pictures of a whole run.", 1)

PICTURE_SIZE = (500, 375)
"""Pixels; that of most of the paper's pictures."""


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


def time_in_turns(
    calls: dict[str, tuple[Callable[[], object], int]], *, rounds: int
) -> dict[str, tuple[float, float]]:
    """Return the median (seconds, core-seconds) a picture of each call.

    Every round runs all calls once, in turn; one round before is not counted.
    Core-seconds are those of all threads of this process.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    bar = tqdm(total=(1 + rounds) * len(calls), desc="Timing", leave=False)
    with bar:
        for number in range(1 + rounds):
            for name, (call, pictures) in calls.items():
                wall, cores = time.perf_counter(), time.process_time()
                call()
                wall = time.perf_counter() - wall
                cores = time.process_time() - cores
                if number:
                    taken[name].append((wall / pictures, cores / pictures))
                bar.update()
    return {name: tuple(np.median(runs, axis=0)) for name, runs in taken.items()}


def time_stream(
    name: str,
    models: dict[str, Encoders],
    data: Path,
    *,
    pictures: int,
    batch_size: int,
    rounds: int,
) -> dict[str, Any]:
    """Time encoding, preprocessing and the whole way from disk to disk."""
    source = catalog.load_dataset(str(data), "all")
    prepare = PrepareInputs(tuple(models.values()), strict=True)

    def read() -> dict[str, Any]:
        (batch,) = ordered_batches(
            source,
            batch_size=batch_size,
            collate=prepare,
            examples=[range(batch_size)],
            num_threads=0,
        )
        return batch

    inputs = read()["inputs"]

    def encode() -> None:
        rows = [
            (
                model.encode_image(own["pixels"]),
                model.encode_text(own["ids"], own.get("ids_mask")),
            )
            for model, own in zip(models.values(), inputs, strict=True)
        ]
        jax.block_until_ready(rows)

    settings = embed.Config(
        dataset=str(data),
        split="all",
        batch_size=batch_size,
        max_examples=pictures,
        workers=embed.default_workers(),
    )

    def stream() -> None:
        with tempfile.TemporaryDirectory(dir=data.parent) as workdir:
            embed.run(settings, models, Path(workdir), quiet=True)

    calls = {
        "encoding alone": (encode, batch_size),
        "preprocessing alone, one thread": (lambda: read(), batch_size),
        "disk to store": (stream, pictures),
    }
    for model, own in zip(models.values(), inputs, strict=True):
        # Texts may be as short as they are, or as long as the model has them.
        long, _ = model.preprocessing.to_full_length(own["ids"], None)
        for ids in (own["ids"], long):
            rows = functools.partial(model.encode_text, ids)
            title = f"texts alone, {ids.shape[1]} tokens, {Path(model.name).name}"
            calls[title] = (functools.partial(wait_for, rows), batch_size)
    seconds = time_in_turns(calls, rounds=rounds)
    (encode_wall, encode_cores), (_, read_cores), (wall, _), *_ = seconds.values()
    on_cpu = jax.default_backend() == "cpu"
    cores = cpu_count()
    ceiling = cores / (encode_cores + read_cores) if on_cpu else 1 / encode_wall
    return {
        "name": name,
        "device": jax.devices()[0].device_kind,
        "cores": cores,
        "pictures": pictures,
        "batch_size": batch_size,
        "milliseconds": {
            title: {"wall": 1e3 * wall, "core": 1e3 * core}
            for title, (wall, core) in seconds.items()
        },
        "pictures_per_second": 1 / wall,
        "ceiling_per_second": ceiling,
        "share_of_ceiling": 1 / wall / ceiling,
        "rounds": rounds,
    }


def wait_for(call: Callable[[], jax.Array]) -> None:
    """Call, and wait for the result."""
    jax.block_until_ready(call())


def inspect_eight_devices(folder: Path) -> dict[str, Any]:
    """On eight virtual devices: count compilations and collectives, divide the work."""
    data = write_pictures(folder / "ragged", 37)
    model = write_clip(folder / "small", clip_config(tiny=True))
    compiled: list[str] = []

    def note(event: str, duration_secs: float, **_: str | int) -> None:
        compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)

    def compilations() -> int:
        return sum("backend_compile" in event for event in compiled)

    found: dict[str, Any] = {"devices": jax.device_count()}
    for partition in PARTITIONS:
        settings = embed.Config(
            dataset=str(data), split="all", batch_size=16, partition=partition
        )
        spread = model.on_mesh(data_mesh(), partition)
        counts = []
        for run in ("first", "second"):
            before = compilations()
            embed.run(
                settings,
                {"source": model},
                folder / partition / run,
                mesh=data_mesh(),
                quiet=True,
            )
            counts.append(compilations() - before)
        size = vision_config(model.config).image_size
        pixels = np.zeros((16, size, size, 3), np.float32)
        program = spread.compile("image", pixels)
        whole = model.compile("image", pixels)
        found[partition] = {
            "compilations of a run with a ragged tail": counts[0],
            "compilations of a second run": counts[1],
            "collectives in the compiled text": len(
                re.findall(
                    r"all-reduce|all-gather|all-to-all|collective-",
                    program.as_text() or "",
                )
            ),
            "work of each device": flops(program) / flops(whole),
        }
    return found


def flops(program: jax.stages.Compiled) -> float:
    """Return the operations that the compiler counts for one device."""
    costs: Any = program.cost_analysis()
    return costs["flops"]


def measure_memory(folder: Path, pictures: int) -> dict[str, Any]:
    """Embed so many pictures with a small model; return the peak of this process."""
    data = write_pictures(folder / "pictures", pictures)
    model = write_clip(folder / "model", clip_config(tiny=True))
    settings = embed.Config(dataset=str(data), split="all", batch_size=32)
    embed.run(settings, {"source": model}, folder / "rows", quiet=True)
    return {"pictures": pictures, "peak_MB": peak_megabytes()}


def peak_megabytes() -> float:
    """Return the most memory that this process has held; NaN where it is not told.

    Not `getrusage`, whose peak a process inherits from the one that started it.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return float("nan")


def in_process(name: str, *arguments: object, **environment: str) -> dict[str, Any]:
    """Run a function of this module in a process of its own; return what it does."""
    code = (
        "import json, sys, tempfile, pathlib\n"
        f"from experiments.benchmarks.streaming import {name}\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        f"    found = {name}(pathlib.Path(folder), *{arguments!r})\n"
        "print(json.dumps(found))\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(process.stdout.splitlines()[-1])


def format_results(results: dict[str, Any]) -> str:
    """Lay the results out for a reader."""
    devices = results["devices"]
    lines = []
    for stream in results["streams"]:
        lines.append(f"{stream['name']:44}{'wall':>9}{'core':>9}  ms a picture")
        lines += [
            f"  {name:42}{taken['wall']:9.2f}{taken['core']:9.2f}"
            for name, taken in stream["milliseconds"].items()
        ]
        lines.append(
            f"  {stream['pictures_per_second']:.1f} pictures a second, "
            f"{stream['share_of_ceiling']:.2f} of the ceiling of "
            f"{stream['ceiling_per_second']:.1f} ({stream['cores']} cores, "
            f"{stream['device']}).\n"
        )
    lines.append(f"On {devices['devices']} virtual devices")
    for partition in PARTITIONS:
        lines += [
            f"  {partition}: {name}: {value:.3g}"
            for name, value in devices[partition].items()
        ]
    lines.append("\nPeak memory")
    lines += [
        f"  {row['pictures']:6} pictures: {row['peak_MB']:.0f} MB"
        for row in results["memory"]
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write `results.json`."""
    tiny = launch.TINY.value
    workdir = launch.open_workdir("runs/benchmarks/streaming")
    pictures = 64 if tiny else _PICTURES.value
    results: dict[str, Any] = {"versions": library_versions(), "streams": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A small model needs more of them for a run of some seconds.
        data = write_pictures(folder / "pictures", 4 * pictures)
        large = write_clip(folder / "vit-b-32", clip_config(tiny=tiny))
        pair = {
            role: load_encoders(f"jaxalign/openmoji-{family}")
            for role, family in (("source", "clip"), ("target", "siglip"))
        }
        for title, models, count in (
            ("CLIP ViT-B/32, random weights", {"source": large}, pictures),
            ("The shipped pair, in one pass", pair, 4 * pictures),
        ):
            results["streams"].append(
                time_stream(
                    title,
                    models,
                    data,
                    pictures=count,
                    batch_size=launch.BATCH_SIZE.value
                    if launch.BATCH_SIZE.present
                    else 32,
                    rounds=1 if tiny else ROUNDS.value,
                )
            )
    results["devices"] = in_process(
        "inspect_eight_devices", JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="8"
    )
    counts = (64, 128) if tiny else (1000, 4000)
    results["memory"] = [
        in_process("measure_memory", count, JAX_PLATFORMS="cpu") for count in counts
    ]
    print(format_results(results))
    write_atomically(workdir / "results.json", json.dumps(results, indent=1) + "\n")
    print(f"\nWritten to {workdir}/results.json.")


flags.adopt_module_key_flags(launch)
flags.declare_key_flag("rounds")

if __name__ == "__main__":
    launch.launch(main, unused=("sections",))
