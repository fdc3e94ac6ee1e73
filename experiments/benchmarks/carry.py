# SPDX-License-Identifier: Apache-2.0
"""How fast rows are carried from file to file, beside the product and the disk alone.

    TMPDIR=/a/disk python -m experiments.benchmarks.carry

Sections: `half` and `single`, a file of float16 or float32 rows; `folder`, the same in
parts with two modalities; `memory`, the peak of a process's own memory over all rows
against a quarter of them.

What is compared takes turns in one process: the product of blocks in memory, a copy of
the input (read cold, written and synced), and `ja.maps.carry`. The ratio is of the
longer of the two over ours. Files lie in `$TMPDIR`, which should be on a disk.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import jaxalign as ja
from experiments import launch
from experiments.benchmarks import launch_benchmark
from experiments.benchmarks.alternating import median_seconds
from experiments.benchmarks.cone_rows import aligned, cone_pairs
from experiments.benchmarks.launch_benchmark import ROUNDS, chosen_sections
from experiments.benchmarks.lines import Line, run_sections

_BLOCK = 8192
_COPIED = 8 << 20
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How many rows, and how wide."""

    rows: int = 1_000_000
    width: int = 768
    parts: int = 8


TINY = Sizes(rows=4_000, width=32, parts=3)


def time_file(sizes: Sizes, rounds: int, dtype: str) -> list[Line]:
    """Carry one file."""
    amap, drawn = _map_and_rows(sizes)
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "rows.npy", Path(folder) / "carried.npy"
        _write(source, sizes.rows, drawn.astype(dtype))
        return _race(f"{dtype} file to file", amap, source, out, sizes.rows, rounds)


def time_folder(sizes: Sizes, rounds: int) -> list[Line]:
    """Carry a folder of images and texts, half of the rows each."""
    amap, drawn = _map_and_rows(sizes)
    part = sizes.rows // (2 * sizes.parts)
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "rows", Path(folder) / "carried"
        for name in ("img_emb", "text_emb"):
            (source / name).mkdir(parents=True)
            for number in range(sizes.parts):
                path = source / name / f"{name}_{number}.npy"
                _write(path, part, drawn.astype(np.float16))
        title = "float16 folder to folder, two modalities"
        return _race(title, amap, source, out, 2 * part * sizes.parts, rounds)


def _race(
    title: str, amap: ja.AlignmentMap, source: Path, out: Path, n: int, rounds: int
) -> list[Line]:
    """Carry rows beside the product and the disk alone."""
    files = sorted(source.rglob("*.npy")) if source.is_dir() else [source]
    d = amap.d_source
    matrix = jnp.asarray(amap.matrix)
    multiply = jax.jit(lambda block: jnp.matmul(block, matrix.T, precision=_HIGHEST))
    block = aligned(_BLOCK, d)
    block[:] = 1.0
    on_device = jax.device_put(block)

    def product() -> None:
        for _ in range(0, n, _BLOCK):
            result = multiply(on_device)
        result.block_until_ready()

    def disk() -> None:
        _forget(files)
        for file in files:
            copy = file.with_suffix(".copy")
            with file.open("rb") as read, copy.open("wb") as written:
                shutil.copyfileobj(read, written, _COPIED)
                os.fsync(written.fileno())
        for file in files:
            file.with_suffix(".copy").unlink()

    def carry() -> None:
        _forget(files)
        modality = None if source.is_dir() else "image"
        rows = ja.rows.open_rows(source, modality=modality)
        ja.maps.carry(amap, rows, out, overwrite=True)

    seconds = median_seconds(
        {"product": product, "disk": disk, "carry": carry}, rounds=rounds, warmups=1
    )
    size = sum(file.stat().st_size for file in files)
    binding = max(seconds["product"], seconds["disk"])
    section = f"{title}, {n:,} x {d}"
    rate = f"{size / seconds['disk'] / 1e9:.2f} GB/s"
    return [
        Line(section, "product alone", seconds["product"]),
        Line(section, "disk alone: read, write, sync", seconds["disk"], note=rate),
        Line(
            section,
            "jaxalign, the longer of these over it",
            seconds["carry"],
            ratio=binding / seconds["carry"],
            wanted=0.6,
            note=f"{n / seconds['carry']:,.0f} rows/s",
        ),
    ]


def look_at_memory(sizes: Sizes, rounds: int) -> list[Line]:
    """Measure the peak of a process's own memory over a quarter and over all rows."""
    del rounds
    amap, drawn = _map_and_rows(sizes)
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        amap.save(Path(folder) / "map.safetensors")
        for n in (sizes.rows // 4, sizes.rows):
            source = Path(folder) / f"{n}.npy"
            _write(source, n, drawn.astype(np.float16))
            peaks.append(_peak_memory(Path(folder), source))
    few, many = peaks
    return [
        Line(
            f"memory, {sizes.rows:,} x {sizes.width} float16",
            "peak RssAnon, all rows against a quarter",
            ratio=many / few,
            at_most=1.05,
            note=f"{few / 1e6:.0f} MB and {many / 1e6:.0f} MB",
        )
    ]


_MEASURE = """
import re, sys, threading
import jaxalign as ja

folder, source = sys.argv[1:]
peak, done = 0, threading.Event()


def watch():
    global peak
    while not done.wait(0.02):
        status = open("/proc/self/status").read()
        peak = max(peak, int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]))


watcher = threading.Thread(target=watch)
watcher.start()
amap = ja.AlignmentMap.load(folder + "/map.safetensors")
rows = ja.rows.open_rows(source, modality="image")
ja.maps.carry(amap, rows, folder + "/carried.npy", overwrite=True)
done.set()
watcher.join()
print(peak * 1024)
"""


def _peak_memory(folder: Path, source: Path) -> int:
    """Return the peak of a process's own memory while it carries, in bytes."""
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(folder), str(source)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout)


def _map_and_rows(sizes: Sizes) -> tuple[ja.AlignmentMap, np.ndarray]:
    """Fit a map, and return the rows that files repeat."""
    pair = cone_pairs(min(sizes.rows, 20_000), sizes.width)
    return ja.fit_map({"image": pair, "text": pair}), pair[0]


def _write(path: Path, n: int, drawn: np.ndarray) -> None:
    """Write n rows, block by block."""
    shape = (n, drawn.shape[1])
    file = np.lib.format.open_memmap(path, "w+", drawn.dtype, shape)
    for start in range(0, n, len(drawn)):
        stop = min(start + len(drawn), n)
        file[start:stop] = drawn[: stop - start]
    file.flush()


def _forget(paths: list[Path]) -> None:
    """Ask the system to drop the files' pages, so that they are read from the disk."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in paths:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


SECTIONS = {
    "half": lambda sizes, rounds: time_file(sizes, rounds, "float16"),
    "single": lambda sizes, rounds: time_file(sizes, rounds, "float32"),
    "folder": time_folder,
    "memory": look_at_memory,
}


def main() -> None:
    """Run the sections, print their lines as they come, and keep them."""
    sizes = TINY if launch.TINY.value else Sizes()
    sections = {
        name: lambda section=section: [section(sizes, ROUNDS.value)]
        for name, section in SECTIONS.items()
    }
    chosen = {name: sections[name] for name in chosen_sections(sections)}
    workdir = launch.open_workdir("runs/benchmark_carry")
    run_sections(chosen, workdir / "benchmark.json")


flags.adopt_module_key_flags(launch_benchmark)

if __name__ == "__main__":
    launch.launch(main, unused=launch_benchmark.UNUSED)
