# SPDX-License-Identifier: Apache-2.0
"""Launches of `experiments.embed`, undisturbed and killed, and what they leave."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.experiments.launching import child_environment
from tests.free_port import free_port

COUNT = 700
BROKEN = {5, 333, 699}


def write_pictures(folder: Path) -> Path:
    """Write small pictures of many sizes, some of them broken, and their captions."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = ["file_name,caption,label"]
    for number in range(COUNT):
        height, width = rng.integers(20, 90, 2)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        name = f"{number:04d}.png"
        Image.fromarray(pixels).save(folder / name)
        if number in BROKEN:
            os.truncate(folder / name, 300)
        lines.append(f"{name},caption {number},class {number % 7}")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    return folder


def start(
    data: Path,
    workdir: Path,
    *more: str,
    process: int = 0,
    count: int = 1,
    port: int = 0,
) -> subprocess.Popen:
    """Start one process of a run, with more flags."""
    flags = [f"--dataset={data}", f"--workdir={workdir}", "--batch_size=16"]
    flags += ["--part_examples=96"]
    if count > 1:
        flags += [f"--coordinator_address=127.0.0.1:{port}"]
        flags += [f"--num_processes={count}", f"--process_id={process}"]
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.embed", *flags, *more],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_all(
    data: Path, workdir: Path, count: int, *more: str
) -> list[subprocess.Popen]:
    """Start all processes of a run, with more flags."""
    port = free_port()
    return [
        start(data, workdir, *more, process=number, count=count, port=port)
        for number in range(count)
    ]


def wait_for_writing(processes: list[subprocess.Popen], workdir: Path) -> None:
    """Wait until a run has started on its stores, or goes on with them, or is done."""
    before = _unfinished(workdir)
    while any(process.poll() is None for process in processes):
        if _unfinished(workdir) != before and list(workdir.glob("*/.unfinished/plan*")):
            return
        time.sleep(0.01)
    assert all(process.returncode == 0 for process in processes)


def _unfinished(workdir: Path) -> set[Path]:
    return set(workdir.glob("*/.unfinished/**/*"))


def finish(processes: list[subprocess.Popen]) -> None:
    """Wait for a run to end well."""
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output[-3000:]


def time_writing(processes: list[subprocess.Popen], workdir: Path) -> float:
    """Wait for a run to end well; return the seconds from its first file to its end."""
    wait_for_writing(processes, workdir)
    started = time.perf_counter()
    finish(processes)
    return time.perf_counter() - started


def kill(processes: list[subprocess.Popen]) -> None:
    """Kill a run's processes, one after the other."""
    for process in reversed(processes):
        process.kill()
        process.communicate()


def read_tree(folder: Path) -> dict[str, bytes]:
    """Read all files that a run left."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
