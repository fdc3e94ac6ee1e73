# SPDX-License-Identifier: Apache-2.0
"""Solvers of one problem, side by side: tuned by one rule, recorded, timed in turns."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from tqdm import tqdm

import jaxalign as ja
from experiments.benchmarks.alternating import median_seconds
from experiments.solver_problems import Problem
from experiments.solver_programs import MOMENTUM, SOLVERS, Programs, Setting, places
from jaxalign.report.convergence import TARGET, Convergence, Course, Mark
from jaxalign.solve.polar import POLAR_METHODS
from jaxalign.status import Status

# Learning rates are tried at these powers of two of a unit.
POWERS = (-3, -2, -1, 0, 1, 2)
_MOST_TIMED = 60
# Threads of a library beside XLA's (OpenBLAS: the SVD, the judge) keep the processors
# busy for a tenth of a second after their work is done, where matrices are large.
_REST, _LARGE = 0.15, 100
RULE = (
    "Learning rates are chosen by one rule: short runs at 2^k units, k = "
    f"{POWERS[0]} to {POWERS[-1]}; the rate that reaches the target in the fewest "
    "steps, or gets nearest to it. The unit is one over the largest singular value of "
    "the gradient. Adam divides the gradient's size out: its rate is a length, in "
    "units of the square root of the width, and falls to 0 by a cosine, over as many "
    "steps as the short run where these are enough, else over all. Momentum is "
    f"{MOMENTUM} wherever it is used. Landing is drawn to the manifold as strongly as "
    "it may be."
)


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


@contextlib.contextmanager
def solver_bar(
    title: str, problems: int, labels: Sequence[str]
) -> Iterator[Callable[[str], None]]:
    """Show progress over the solvers of problems; gives what `compare` reports to."""
    total = problems * (len(labels) + len(POLAR_METHODS))
    with tqdm(total=total, desc=title, unit=" solvers") as bar:

        def report(label: str) -> None:
            bar.set_postfix_str(label, refresh=False)
            bar.update()

        yield report


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
    timed_steps = places(max(2, min(problem.steps // 4, _MOST_TIMED)))
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
    seconds = {}
    if rounds:
        rest = _REST if min(problem.shape) > _LARGE else 0.0
        seconds = median_seconds(calls, rounds=rounds, warmups=0, rest=rest)
    of_step = {
        name: seconds.get(name, 0.0) / timed_steps[-1] for name in programs.labels
    }
    return Outcome(
        problem,
        Convergence(
            [
                _course(programs, problem, label, points, chosen, of_step)
                for label, points in courses
            ],
            [_mark(problem, label, found, seconds) for label, found in marks],
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
    return Course(label, steps[kept], excess, drift, of_step.get(label, 0.0), details)


def _mark(problem, label, solution, seconds) -> Mark:
    """Measure a closed form."""
    rotation = np.asarray(solution.rotation)
    excess, drift = problem.excess(rotation)
    details = problem.describe_point(rotation)
    status = Status(int(solution.status))
    details |= {} if status == Status.OK else {"status": status.name}
    return Mark(label, seconds.get(label, 0.0), float(excess), float(drift), details)
