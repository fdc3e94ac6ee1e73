# SPDX-License-Identifier: Apache-2.0
"""Timing in turns under a deadline: first calls apart, medians of what time allows."""

import dataclasses
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

_MOST_SECONDS = 4.0


class Deadline:
    """A point in time after which no further work is started.

    Args:
      seconds: from now.
    """

    def __init__(self, seconds: float):
        self._until = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds left; negative once the deadline has passed."""
        return self._until - time.perf_counter()

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return self.left <= 0


@dataclasses.dataclass(frozen=True)
class Job:
    """What a section is asked for.

    Attributes:
      deadline: of the section.
      tiny: toy sizes.
      rounds: counted runs of each call, at most.
      torch: whether torch is timed where it is installed.
    """

    deadline: Deadline
    tiny: bool = False
    rounds: int = 5
    torch: bool = True


@dataclasses.dataclass(frozen=True)
class Timing:
    """What was seen of one call.

    Attributes:
      seconds: median of the counted runs; None if there was none.
      repeats: counted runs.
      first_seconds: of the first run, which compiles; None if it was not started.
      value: what the first run returned.
      error: why the first run failed, in one line; empty if it did not.
      trace: the traceback of that.
    """

    seconds: float | None = None
    repeats: int = 0
    first_seconds: float | None = None
    value: Any = None
    error: str = ""
    trace: str = ""


def time_in_turns(
    calls: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    deadline: Deadline,
    most_seconds: float = _MOST_SECONDS,
) -> dict[str, Timing]:
    """Time calls in turns, after a first run of each that is not counted.

    Unlike `alternating.median_seconds`, it stops at a deadline, runs slow calls less
    often, and goes on where a call fails: a backend may lack an algorithm.

    Args:
      calls: by name; JAX arrays that they return are waited for.
      rounds: counted runs of each, at most.
      deadline: no run is started after it.
      most_seconds: a call whose counted runs took this long together is not run again.

    Returns:
      The timing of each call, under its name.
    """
    found = {name: _first_run(call, deadline) for name, call in calls.items()}
    live = [
        name
        for name, timing in found.items()
        if timing.first_seconds is not None and not timing.error
    ]
    counted: dict[str, list[float]] = {name: [] for name in live}
    for _ in range(rounds):
        for name in live:
            if deadline.passed or sum(counted[name]) > most_seconds:
                continue
            started = time.perf_counter()
            jax.block_until_ready(calls[name]())
            counted[name].append(time.perf_counter() - started)
    for name, seconds in counted.items():
        if seconds:
            found[name] = dataclasses.replace(
                found[name], seconds=float(np.median(seconds)), repeats=len(seconds)
            )
    return found


def _first_run(call: Callable[[], Any], deadline: Deadline) -> Timing:
    """Compile and run a call once; keep what it returns, or why it failed."""
    if deadline.passed:
        return Timing()
    started = time.perf_counter()
    try:
        value = jax.block_until_ready(call())
    # Whatever a backend or another library raises, the other calls go on.
    except Exception as error:  # noqa: BLE001
        return Timing(
            first_seconds=time.perf_counter() - started,
            error=first_line(error),
            trace=traceback.format_exc(),
        )
    return Timing(first_seconds=time.perf_counter() - started, value=value)


def first_line(error: BaseException) -> str:
    """Return the kind of an error and the first line of its text, shortened."""
    text = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {text[0]}"[:200]
