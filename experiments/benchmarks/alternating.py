# SPDX-License-Identifier: Apache-2.0
"""Timing in turns: what drifts in a machine drifts for all that is compared."""

import time
from collections.abc import Callable, Mapping

import numpy as np
from tqdm import tqdm


def median_seconds(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmups: int = 2,
    rest: float = 0.0,
) -> dict[str, float]:
    """Return each call's median time; every round runs all calls once, in turn.

    Args:
      calls: by name; each returns only when its work is done.
      rounds: counted runs of each call, at least 1.
      warmups: runs before that, for compiling and filling caches.
      rest: seconds of sleep before each run: the threads of another library (OpenBLAS)
        keep the processors busy for a tenth of a second after their work is done.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    bar = tqdm(total=(warmups + rounds) * len(calls), desc="Timing", leave=False)
    with bar:
        for round_number in range(warmups + rounds):
            for name, call in calls.items():
                time.sleep(rest)
                started = time.perf_counter()
                call()
                if round_number >= warmups:
                    seconds[name].append(time.perf_counter() - started)
                bar.update()
    return {name: float(np.median(values)) for name, values in seconds.items()}
