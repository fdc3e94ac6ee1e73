# SPDX-License-Identifier: Apache-2.0
"""The record of an accelerator run: measurements, the machine, one JSON file.

The file is written anew after each group of measurements, so that a run that is killed
leaves what it has measured.
"""

import dataclasses
import importlib.metadata
import json
import math
import os
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.benchmarks.accelerator_timing import Timing, first_line
from jaxalign.atomic_files import write_atomically
from jaxalign.report.results import library_versions

FORMAT = "jaxalign-accelerator/1"
OUT_OF_TIME = "skipped: the budget of seconds is spent"

_FURTHER_PACKAGES = ("scipy", "safetensors", "jaxtyping", "torch")
# What changes numbers or speed without a trace in them.
_VARIABLES = (
    "XLA_FLAGS",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "NVIDIA_TF32_OVERRIDE",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_COMPILATION_CACHE_DIR",
)
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One line of the table.

    Attributes:
      section: what it belongs to.
      name: who computed it, and how.
      shape: of the problem, such as "8 x 512 x 512".
      dtype: of the inputs.
      seconds: median, or None where nothing was timed.
      repeats: runs that the median is of.
      first_seconds: of the first run, compiling included.
      errors: measures of error, by name.
      figures: other numbers, by name.
      passed: whether a check held; None where nothing is checked.
      note: a few words.
      trace: the traceback of a failure.
    """

    section: str
    name: str
    shape: str = ""
    dtype: str = ""
    seconds: float | None = None
    repeats: int = 0
    first_seconds: float | None = None
    errors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    passed: bool | None = None
    note: str = ""
    trace: str = ""


def timed(
    section: str,
    name: str,
    timing: Timing,
    *,
    optional: bool = False,
    note: str = "",
    **more: Any,
) -> Measurement:
    """Make the line of a timed call.

    Args:
      section: of the line.
      name: of the call.
      timing: of the call.
      optional: whether the call may fail: a peer, or an algorithm of some backends.
      note: a few words, where the call neither failed nor was skipped.
      **more: other fields of `Measurement`.
    """
    if timing.error:
        fields = (
            {"note": f"not available: {timing.error}"}
            if optional
            else {"note": timing.error, "passed": False, "trace": timing.trace}
        )
        more = {key: more[key] for key in ("shape", "dtype") if key in more}
    elif timing.seconds is None:
        fields = {"note": note or OUT_OF_TIME}
    else:
        fields = {"note": note}
    return Measurement(
        section,
        name,
        seconds=timing.seconds,
        repeats=timing.repeats,
        first_seconds=timing.first_seconds,
        **{**more, **fields},
    )


def failure(section: str, name: str, error: Exception) -> Measurement:
    """Make the line of an error that is being handled."""
    trace = traceback.format_exc()
    return Measurement(section, name, passed=False, note=first_line(error), trace=trace)


def describe_machine() -> dict[str, Any]:
    """Return versions, device, driver, memory and the settings that change numbers."""
    device = jax.devices()[0]
    versions = library_versions()
    for package in _FURTHER_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    driver = ""
    if _NVIDIA_DRIVER.exists():
        driver = _NVIDIA_DRIVER.read_text(errors="replace").splitlines()[0]
    return {
        "versions": versions,
        "backend": jax.default_backend(),
        "device_kind": device.device_kind,
        "platform_version": " ".join(str(device.client.platform_version).split()),
        "driver": driver,
        "processors": os.cpu_count(),
        "memory": memory_stats(),
        "environment": {
            name: os.environ[name] for name in _VARIABLES if name in os.environ
        },
    }


def memory_stats() -> dict[str, int]:
    """Return bytes in use, at most so far, and to be had; {} if the device is mute."""
    stats = jax.devices()[0].memory_stats() or {}
    names = ("bytes_in_use", "peak_bytes_in_use", "bytes_limit")
    return {name: int(stats[name]) for name in names if name in stats}


class Record:
    """Collects measurements, prints them, and keeps them in a file.

    Args:
      path: of the JSON file.
      settings: of the run, kept with it.
      machine: as by `describe_machine`.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], machine: Mapping[str, Any]
    ):
        self.path = path
        self.lines: list[Measurement] = []
        self._started = time.perf_counter()
        self._document = {
            "format": FORMAT,
            "settings": dict(settings),
            "machine": dict(machine),
            "sections": {},
        }
        self._write()

    @property
    def failed(self) -> list[Measurement]:
        """The lines of checks that did not hold, and of our own calls that failed."""
        return [line for line in self.lines if line.passed is False]

    def add(self, lines: Sequence[Measurement]) -> None:
        """Print lines and write the file."""
        if lines:
            print(format_lines(lines), flush=True)
        self.lines += lines
        self._write()

    def finish(self, section: str, status: str, seconds: float = 0.0) -> None:
        """Say how a section ended: "done", "out of time", "skipped" or "failed"."""
        self._document["sections"][section] = {"status": status, "seconds": seconds}
        print(f"  [{section}: {status}, {seconds:.1f} s]", flush=True)
        self._write()

    def _write(self) -> None:
        document = {
            **self._document,
            "seconds": time.perf_counter() - self._started,
            "failed": [f"{line.section}: {line.name}" for line in self.failed],
            "lines": [dataclasses.asdict(line) for line in self.lines],
        }
        text = json.dumps(_plain(document), indent=1, allow_nan=False)
        write_atomically(self.path, text + "\n")


def format_lines(lines: Sequence[Measurement]) -> str:
    """Set lines as a table."""
    width = max(len(line.name) for line in lines)
    shapes = max(len(line.shape) for line in lines)
    text = [f"\n{lines[0].section}"]
    for line in lines:
        verdict = {True: "ok", False: "FAILED", None: ""}[line.passed]
        seconds = "" if line.seconds is None else f"{1e3 * line.seconds:.2f} ms"
        repeats = f"x{line.repeats}" if line.repeats else ""
        numbers = [f"{name} {value:.1e}" for name, value in line.errors.items()]
        numbers += [f"{name} {value:.4g}" for name, value in line.figures.items()]
        text.append(
            f"  {line.name:<{width}} {line.shape:<{shapes}} {line.dtype:<8} "
            f"{seconds:>12} {repeats:<4} {verdict:<6} "
            f"{', '.join(numbers)}  {line.note}".rstrip()
        )
    return "\n".join(text)


def _plain(value: Any) -> Any:
    """Make a value JSON: numbers of NumPy plain, NaN and infinities words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    number = float(value)
    return number if math.isfinite(number) else str(number)
