# SPDX-License-Identifier: Apache-2.0
"""Fitting from rows on disk: time beside the disk's, and memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

import jaxalign as ja
from experiments.benchmarks.alternating import median_seconds
from experiments.benchmarks.cone_rows import cone_pairs, write_cone_pairs
from experiments.benchmarks.lines import Line

_BLOCK = 8192


def time_store(size: int, d: int, rounds: int) -> list[Line]:
    """Fit from two memory-mapped files larger than the cache of pages.

    The pass over the whole is compared with the time of the same pass over rows in
    memory plus that of reading alone. Memory is looked at in processes of their own.
    """
    n = size // (2 * 4 * d)
    with tempfile.TemporaryDirectory(dir=_scratch()) as folder:
        paths = write_cone_pairs(Path(folder), n, d)
        part = min(n, 200_000)
        source, target = cone_pairs(part, d)
        seconds = median_seconds({"pass": lambda: _pass(source, target)}, rounds=rounds)
        in_memory = seconds["pass"] * (n / part)
        reads, passes = [], []
        for _ in range(rounds):
            _forget(paths)
            started = time.perf_counter()
            for path in paths:
                _read(path)
            reads.append(time.perf_counter() - started)
            _forget(paths)
            started = time.perf_counter()
            mapped = [np.load(path, mmap_mode="r") for path in paths]
            _pass(*mapped)
            passes.append(time.perf_counter() - started)
        read, whole = float(np.median(reads)), float(np.median(passes))
        peaks = {rows: _peak_memory(paths, rows) for rows in (n // 4, n)}
    title = f"fit from memory-mapped rows, {size / 1e9:g} GB, {n:,} x {d}"
    few, many = peaks.values()
    return [
        Line(title, "the same rows in memory", in_memory),
        Line(title, "reading alone", read, note=f"{size / read / 1e9:.2f} GB/s"),
        Line(
            title,
            "jaxalign, of in-memory time plus reading",
            whole,
            ratio=whole / (in_memory + read),
            at_most=1.2,
        ),
        Line(
            title,
            "peak RssAnon, all rows against a quarter",
            ratio=many / few,
            at_most=1.05,
            note=f"{few / 1e6:.0f} MB and {many / 1e6:.0f} MB",
        ),
    ]


def _pass(source: np.ndarray, target: np.ndarray) -> None:
    """Accumulate moments of all rows, in one pass."""
    batches = ja.anchors.array_pairs(source, target, batch_size=_BLOCK)
    jax.block_until_ready(ja.accumulate_moments(batches))


def _scratch() -> str:
    """Where large files go: a disk, where /tmp may be memory."""
    return os.environ.get("TMPDIR", ".")


def _read(path: Path) -> None:
    """Read a file from end to end."""
    block = bytearray(8 << 20)
    with path.open("rb", buffering=0) as stream:
        while stream.readinto(block):
            pass


def _forget(paths: tuple[Path, ...]) -> None:
    """Ask the system to drop the files' pages, so that they are read from the disk."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in paths:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


_MEASURE = """
import json, re, sys, threading
import numpy as np
import jaxalign as ja

paths, rows, block = json.loads(sys.argv[1])
peak, done = 0, threading.Event()


def watch():
    global peak
    while not done.wait(0.02):
        status = open("/proc/self/status").read()
        peak = max(peak, int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]))


watcher = threading.Thread(target=watch)
watcher.start()
mapped = [np.load(path, mmap_mode="r")[:rows] for path in paths]
moments = ja.accumulate_moments(ja.anchors.array_pairs(*mapped, batch_size=block))
moments.count.block_until_ready()
done.set()
watcher.join()
print(peak * 1024)
"""


def _peak_memory(paths: tuple[Path, ...], rows: int) -> int:
    """Return the peak of a process's own memory over a pass, in bytes."""
    arguments = json.dumps([[str(path) for path in paths], rows, _BLOCK])
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout)
