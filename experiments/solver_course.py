# SPDX-License-Identifier: Apache-2.0
"""Solvers of one problem, side by side: tuned by one rule, recorded, timed in turns."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxalign as ja
from experiments.benchmarks.alternating import median_seconds
from experiments.solver_problems import Problem
from jaxalign.report.convergence import TARGET, Convergence, Course, Mark
from jaxalign.solve.polar import POLAR_METHODS
from jaxalign.status import Status

MOMENTUM = 0.9
# Learning rates are tried at these powers of two of a unit.
POWERS = (-3, -2, -1, 0, 1, 2)
# The Cayley transforms hand on what drift there is.
_STABILIZE_EVERY = 10
_RECORDS = 48
RULE = (
    "Learning rates are chosen by one rule: short runs at 2^k units, k = "
    f"{POWERS[0]} to {POWERS[-1]}; the rate that reaches the target in the fewest "
    "steps, or gets nearest to it. The unit is one over the largest singular value of "
    "the gradient. Adam divides the gradient's size out: its rate is a length, in units of "
    "the square root of the width, and falls to 0 by a cosine, over as many steps as "
    "the short run where these are enough, else over all. Momentum is "
    f"{MOMENTUM} wherever it is used. Landing is drawn to the manifold as strongly as "
    "it may be."
)


@dataclasses.dataclass(frozen=True)
class Solver:
    """An optimiser that is compared.

    Attributes:
      build: from a learning rate.
      adam: whether its rate is a length, and must fall.
    """

    build: Callable[..., optax.GradientTransformation]
    adam: bool = False


_S = ja.stiefel
SOLVERS = {
    "riemannian_sgd": Solver(_S.riemannian_sgd),
    "riemannian_sgd, momentum": Solver(
        lambda rate: _S.riemannian_sgd(rate, momentum=MOMENTUM)
    ),
    "riemannian_sgd, Cayley": Solver(
        lambda rate: _S.riemannian_sgd(
            rate,
            momentum=MOMENTUM,
            retraction="cayley",
            stabilize_every=_STABILIZE_EVERY,
        )
    ),
    "riemannian_adam": Solver(_S.riemannian_adam, adam=True),
    "cayley_sgd": Solver(lambda rate: _S.cayley_sgd(rate, momentum=MOMENTUM)),
    "cayley_adam": Solver(_S.cayley_adam, adam=True),
    "landing": Solver(
        # Attraction times rate may be 1/2 at most.
        lambda rate: _S.landing(rate, momentum=MOMENTUM, attraction=0.5 / rate)
    ),
    "pogo": Solver(lambda rate: _S.pogo(rate, momentum=MOMENTUM)),
    "pogo, mixed": Solver(
        lambda rate: _S.pogo(rate, momentum=MOMENTUM, precision="mixed")
    ),
}


TINY_SOLVERS = ("riemannian_sgd, momentum", "riemannian_adam", "pogo")


class Setting(NamedTuple):
    """Learning rate, and the steps over which it falls where it must."""

    rate: float
    horizon: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a problem.

    Attributes:
      problem: which.
      convergence: of all solvers.
      rotations: what each solver ended with, orthonormal, by its label.
      settings: of each optimiser.
    """

    problem: Problem
    convergence: Convergence
    rotations: dict[str, np.ndarray]
    settings: dict[str, Setting]

    def best(self) -> str:
        """Return the solver that ended nearest to the optimum."""
        excess = {
            name: abs(self.problem.excess(rotation)[0])
            for name, rotation in self.rotations.items()
        }
        return min(excess, key=lambda name: excess[name])


class Programs:
    """Compiled runs: one for each solver and width, whatever the rate and the steps."""

    def __init__(self, labels: Sequence[str] = tuple(SOLVERS)):
        self.labels = tuple(labels)
        self._compiled = {}

    def run(
        self, label: str, problem: Problem, setting: Setting, records: np.ndarray
    ) -> np.ndarray:
        """Return the points after so many steps, ``(records, d_target, d_source)``."""
        compiled, _ = self._of(label, problem)
        gaps = jnp.asarray(np.diff(records, prepend=0), jnp.int32)
        numbers = [jnp.float32(number) for number in setting]
        found = compiled(problem.objective, problem.start, *numbers, gaps)
        return np.asarray(found)

    def seconds(self, label: str, problem: Problem) -> float:
        """Return what compiling took."""
        return self._of(label, problem)[1]

    def _of(self, label, problem):
        key = (label, problem.start.shape)
        if key not in self._compiled:
            self._compiled[key] = _compile(SOLVERS[label], problem)
        return self._compiled[key]


def _compile(solver: Solver, problem: Problem):
    """Compile a run anew, so that the time is that of compiling, not of a cache."""
    # A number of its own makes it a program that no cache knows; nor is it kept.
    own = 1e-30 * (time.time_ns() % 1_000_000_007)
    name = "jax_persistent_cache_min_compile_time_secs"
    kept = jax.config.values[name]
    gaps = jnp.zeros(_RECORDS, jnp.int32)
    loop = jax.jit(functools.partial(_descend, solver=solver, own=own))
    jax.config.update(name, 1e9)
    try:
        began = time.perf_counter()
        compiled = loop.lower(
            problem.objective, problem.start, jnp.float32(0), jnp.float32(0), gaps
        ).compile()
        return compiled, time.perf_counter() - began
    finally:
        jax.config.update(name, kept)


def _descend(objective, start, rate, horizon, gaps, *, solver, own):
    """Take steps; return the point after each gap."""
    rate = rate + own

    def falling(count):
        done = jnp.minimum(count / horizon, 1.0)
        return rate * 0.5 * (1.0 + jnp.cos(jnp.pi * done))

    optimizer = solver.build(falling if solver.adam else rate)

    def step(_, now):
        point, state = now
        updates, state = optimizer.update(jax.grad(objective)(point), state, point)
        return optax.apply_updates(point, updates), state

    def record(now, gap):
        now = jax.lax.fori_loop(0, gap, step, now)
        return now, now[0]

    return jax.lax.scan(record, (start, optimizer.init(start)), gaps)[1]


def places(steps: int) -> np.ndarray:
    """Numbers of steps that are recorded, evenly on a logarithmic axis, ``(48,)``.

    Where there are fewer steps than records, the last ones repeat.
    """
    found = np.unique(np.round(np.geomspace(1, steps, _RECORDS)).astype(int))
    return np.concatenate([found, np.full(_RECORDS - len(found), steps)])


def tune(programs: Programs, label: str, problem: Problem) -> Setting:
    """Choose a learning rate by a short run of each."""
    adam, short = SOLVERS[label].adam, problem.tuning_steps
    unit = float(np.sqrt(min(problem.shape))) if adam else problem.unit_rate
    found = {}
    for power in POWERS:
        setting = Setting(unit * 2.0**power, short)
        points = programs.run(label, problem, setting, places(short))
        found[setting] = _rank(problem, points)
    best = min(found, key=lambda setting: found[setting])
    reached = found[best][0] < np.inf
    return best if reached else best._replace(horizon=problem.steps)


def _rank(problem: Problem, points: np.ndarray) -> tuple[float, float]:
    """Give steps to the target, or infinity, and the excess at the end."""
    last = abs(problem.excess(points[-1])[0])
    if not last <= TARGET:
        return np.inf, last if np.isfinite(last) else np.inf
    steps = places(problem.tuning_steps)
    first = len(points) - 1
    while first and abs(problem.excess(points[first - 1])[0]) <= TARGET:
        first -= 1
    return float(steps[first]), last


def compare(
    programs: Programs,
    problem: Problem,
    *,
    rounds: int,
    settings: Mapping[str, Setting] | None = None,
    report: Callable[[str], None] = lambda label: None,
) -> Outcome:
    """Run every solver on a problem, and time them in turns.

    Args:
      programs: compiled before, or now.
      problem: which.
      rounds: of the timing; 0: none, times are 0.
      settings: of the optimisers, if chosen on another problem.
      report: called with the label of each solver that is done.
    """
    chosen = dict(settings or {})
    timed_steps = places(max(2, problem.steps // 8))
    calls, marks, courses, rotations = {}, [], [], {}
    for method in POLAR_METHODS:
        label, solve = f"closed form, {method}", _closed_form(problem, method)
        solution = solve()
        marks.append((label, solution))
        if Status(int(solution.status)) != Status.NOT_CONVERGED:
            rotations[label] = np.asarray(solution.rotation)
        calls[label] = solve
        report(label)
    for label in programs.labels:
        if label not in chosen:
            chosen[label] = tune(programs, label, problem)
        points = programs.run(label, problem, chosen[label], places(problem.steps))
        courses.append((label, points))
        rotations[label] = np.asarray(ja.polar_factor(points[-1]).factor)
        calls[label] = functools.partial(
            programs.run, label, problem, chosen[label], timed_steps
        )
        report(label)
    seconds = median_seconds(calls, rounds=rounds, warmups=1) if rounds else {}
    of_step = {
        name: seconds.get(name, 0.0) / timed_steps[-1] for name in programs.labels
    }
    return Outcome(
        problem,
        Convergence(
            [_course(programs, problem, *c, chosen, of_step) for c in courses],
            [_mark(problem, *mark, seconds) for mark in marks],
        ),
        rotations,
        chosen,
    )


def _closed_form(problem: Problem, method):
    """A solve by one method, that returns when it is done."""

    def solve() -> ja.ProcrustesSolution:
        return jax.block_until_ready(
            _solve(problem.moments, method=method)  # a program for each width
        )

    return solve


@functools.partial(jax.jit, static_argnames="method")
def _solve(moments, *, method):
    return ja.solve_procrustes(moments, method=method, objective="trace")


def _course(programs, problem, label, points, settings, of_step) -> Course:
    """Measure an iteration's points."""
    steps = places(problem.steps)
    measured = np.array([problem.excess(point) for point in points])
    kept = np.append(np.diff(steps) > 0, True)
    details = {"learning rate": f"{settings[label].rate:.2g}"}
    details["compiling"] = f"{programs.seconds(label, problem):.2f} s"
    excess, drift = measured[kept].T
    details |= problem.describe_point(points[-1])
    return Course(label, steps[kept], excess, drift, of_step[label], details)


def _mark(problem, label, solution, seconds) -> Mark:
    """Measure a closed form."""
    rotation = np.asarray(solution.rotation)
    excess, drift = problem.excess(rotation)
    details = problem.describe_point(rotation)
    status = Status(int(solution.status))
    details |= {} if status == Status.OK else {"status": status.name}
    return Mark(label, seconds.get(label, 0.0), float(excess), float(drift), details)
