# SPDX-License-Identifier: Apache-2.0
"""Stiefel optimisers against the closed form on an accelerator, to one accuracy."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np

from experiments.benchmarks.accelerator_record import Measurement, timed
from experiments.benchmarks.accelerator_timing import Job, Timing, time_in_turns
from experiments.solvers.problem import (
    LARGEST_ERROR,
    TARGET,
    Judge,
    Problem,
    orthogonality_error,
    plant,
)
from experiments.solvers.table import run
from experiments.solvers.tuning import Setting
from jaxalign.solve.polar import POLAR_METHODS, polar_factor

_WIDTH, _TINY_WIDTH, _CONDITION = 512, 16, 10.0
_MOST_STEPS = 200
RACERS = {
    "pogo, mixed precision": ("pogo", Setting("mixed", 2.0**0.5, 0.4)),
    "pogo": ("pogo", Setting("full", 2.0**0.5, 0.4)),
    "riemannian_sgd": ("riemannian_sgd", Setting("polar", 2.0, 0.4)),
}
"""The fastest settings of `experiments.benchmarks.stiefel` at this width, on CPU."""


def time_race(job: Job) -> Iterator[list[Measurement]]:
    """Count each optimiser's steps under the judge; then time plain runs in turns."""
    problem = plant(_TINY_WIDTH if job.tiny else _WIDTH, _CONDITION)
    cross = jax.device_put(problem.cross)
    placed = dataclasses.replace(
        problem, cross=cross, start=jax.device_put(problem.start)
    )
    calls: dict[str, Callable[[], np.ndarray]] = {}
    steps: dict[str, int] = {}
    for name, (optimizer, setting) in RACERS.items():
        if job.deadline.passed:
            continue
        judge = Judge(problem, job.deadline.left)
        run(optimizer, problem, setting, _MOST_STEPS, judge)
        steps[name] = judge.steps
        calls[f"jaxalign {name}"] = functools.partial(
            run, optimizer, placed, setting, judge.steps
        )

    def closed_form(method) -> Callable[[], np.ndarray]:
        # All engines bring the result to the host.
        return lambda: np.asarray(polar_factor(cross, method=method).factor)

    calls |= {f"closed form, {method}": closed_form(method) for method in POLAR_METHODS}
    timings = time_in_turns(calls, rounds=job.rounds, deadline=job.deadline)
    yield [
        _line(problem, name, timing, steps.get(name.removeprefix("jaxalign ")))
        for name, timing in timings.items()
    ]


def _line(
    problem: Problem, name: str, timing: Timing, steps: int | None
) -> Measurement:
    """Make a line; whoever ends farther than the target has failed."""
    errors, passed = {}, None
    if timing.value is not None:
        point = np.asarray(timing.value)
        errors = {
            "excess": abs(problem.excess(point)[0]),
            "orthogonality": orthogonality_error(point),
        }
        # NaN compares false.
        passed = bool(
            errors["excess"] <= TARGET and errors["orthogonality"] <= LARGEST_ERROR
        )
    d = problem.cross.shape[0]
    return timed(
        f"to {TARGET:g} of the start's excess, condition {_CONDITION:g}",
        name,
        timing,
        shape=f"{d} x {d}",
        dtype="float32",
        errors=errors,
        figures={} if steps is None else {"steps": steps},
        passed=passed,
    )
