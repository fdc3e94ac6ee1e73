# SPDX-License-Identifier: Apache-2.0
"""Solvers of one problem, side by side: tuned by one rule, recorded, timed in turns."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from tqdm import tqdm

import jaxalign as ja
from experiments.benchmarks.alternating import median_seconds
from experiments.solvers.problem import TARGET, Problem, problem_of
from experiments.solvers.table import (
    SOLVERS,
    compiled_records,
    part,
    places,
    run_records,
)
from experiments.solvers.tuning import Budget, Method, Setting, tune
from jaxalign.report.convergence import Convergence, Course, Mark
from jaxalign.solve.polar import POLAR_METHODS
from jaxalign.status import Status

MOMENTUM = 0.9
COMPARED = {
    "riemannian_sgd": ("riemannian_sgd", Setting("polar")),
    "riemannian_sgd, momentum": (
        "riemannian_sgd",
        Setting("polar", momentum=MOMENTUM),
    ),
    "riemannian_sgd, Cayley": ("riemannian_sgd", Setting("cayley", momentum=MOMENTUM)),
    "riemannian_adam": ("riemannian_adam", Setting("polar")),
    "cayley_sgd": ("cayley_sgd", Setting(momentum=MOMENTUM)),
    "cayley_adam": ("cayley_adam", Setting()),
    "landing": ("landing", Setting(momentum=MOMENTUM)),
    "pogo": ("pogo", Setting("full", momentum=MOMENTUM)),
    "pogo, mixed": ("pogo", Setting("mixed", momentum=MOMENTUM)),
}
"""By label: a solver of the table, and all of its setting but the rate."""
TINY_COMPARED = ("riemannian_sgd, momentum", "riemannian_adam", "pogo")
_REACH = (-3, 2)
_MOST_TIMED = 60
# Threads of a library beside XLA's (OpenBLAS: the SVD, the judge) keep the processors
# busy for a tenth of a second after their work is done, where matrices are large.
_REST, _LARGE = 0.15, 100
RULE = (
    "Learning rates are chosen by one rule: short runs at 2^k units, k from 0 outwards "
    f"to {_REACH[0]} and {_REACH[1]} until one reaches the target, then on while it "
    "takes fewer steps, and half powers beside the best two; or the rate that comes "
    "nearest to the target. The unit is one over the largest singular value of the "
    "gradient. Adam divides the gradient's size out: its rate is a length, in units of "
    "the square root of the width, and falls to 0 by a cosine, over as many steps as "
    "the short run where these are enough, else over all. Momentum is "
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


def choose_setting(label: str, problem: Problem) -> Setting:
    """Choose a learning rate by short runs, whose cost is their steps."""
    (name, setting), short = COMPARED[label], problem.tuning_steps
    solver = SOLVERS[name]
    if solver.adam:
        setting = dataclasses.replace(setting, horizon=short)
    method = Method(
        label, functools.partial(run_records, name), (setting,), unit=solver.unit
    )
    unlimited = Budget(
        short, seconds=math.inf, patience=math.inf, reach=_REACH, timed=False
    )
    best = tune(method, problem, unlimited)[0]
    if best.reached or not solver.adam:
        return best.setting
    return dataclasses.replace(best.setting, horizon=problem.steps)


def compare(
    problem: Problem,
    labels: Sequence[str] = tuple(COMPARED),
    *,
    rounds: int,
    settings: Mapping[str, Setting] | None = None,
    report: Callable[[str], None] = lambda label: None,
) -> Outcome:
    """Run solvers on a problem, and time them in turns.

    Args:
      problem: which.
      labels: of `COMPARED`.
      rounds: of the timing; 0: none, times are 0.
      settings: of the optimisers, if chosen on another problem.
      report: called with the label of each solver that is done.
    """
    chosen = dict(settings or {})
    timed_steps = max(2, min(problem.steps // 4, _MOST_TIMED))
    calls, marks, courses, rotations = {}, {}, {}, {}
    for method in POLAR_METHODS:
        label = f"closed form, {method}"
        calls[label] = functools.partial(_solve_and_wait, problem, method)
        marks[label] = calls[label]()
        if Status(int(marks[label].status)) != Status.NOT_CONVERGED:
            rotations[label] = np.asarray(marks[label].rotation)
        report(label)
    for label in labels:
        if label not in chosen:
            chosen[label] = choose_setting(label, problem)
        run = functools.partial(run_records, COMPARED[label][0], problem, chosen[label])
        courses[label] = run(problem.steps)
        rotations[label] = np.asarray(ja.solve.polar_factor(courses[label][-1]).factor)
        calls[label] = functools.partial(run, timed_steps)
        report(label)
    seconds = dict.fromkeys(calls, 0.0)
    if rounds:
        rest = _REST if min(problem.shape) > _LARGE else 0.0
        seconds = median_seconds(calls, rounds=rounds, warmups=0, rest=rest)
    convergence = Convergence(
        [
            _course(problem, label, points, chosen[label], seconds[label] / timed_steps)
            for label, points in courses.items()
        ],
        [_mark(problem, label, one, seconds[label]) for label, one in marks.items()],
        TARGET,
    )
    return Outcome(problem, convergence, rotations, chosen)


def _solve_and_wait(problem: Problem, method: str) -> ja.solve.ProcrustesSolution:
    """Solve by one method; return when it is done."""
    return jax.block_until_ready(_solve(problem.moments, method=method))


# A program for each width.
@functools.partial(jax.jit, static_argnames="method")
def _solve(moments, *, method):
    return ja.solve.solve_procrustes(moments, method=method, objective="trace")


def _course(problem, label, points, setting, step_seconds) -> Course:
    """Measure an iteration's points."""
    steps = places(problem.steps)
    measured = np.array([problem.excess(point) for point in points])
    kept = np.append(np.diff(steps) > 0, True)
    form, _ = part(COMPARED[label][0], setting)
    _, compiling = compiled_records(form, problem.shape)
    details = {
        "learning rate": f"{setting.rate:.2g}",
        "compiling": f"{compiling:.2f} s",
        **_distance(problem, points[-1]),
    }
    excess, drift = measured[kept].T
    return Course(label, steps[kept], excess, drift, step_seconds, details)


def _mark(problem, label, solution, seconds) -> Mark:
    """Measure a closed form."""
    rotation = np.asarray(solution.rotation)
    excess, drift = problem.excess(rotation)
    details = _distance(problem, rotation)
    status = Status(int(solution.status))
    details |= {} if status == Status.OK else {"status": status.name}
    return Mark(label, seconds, float(excess), float(drift), details)


def _distance(problem: Problem, point: np.ndarray) -> dict[str, str]:
    """Say how far a point is from the planted rotation, if there is one."""
    if problem.planted is None:
        return {}
    return {"from the planted Q": f"{problem.distance(point):.1e}"}


@dataclasses.dataclass(frozen=True)
class Planted:
    """Settings of a planted problem.

    Attributes:
      name: a few characters.
      about: what is special, in words.
      width: of both sides.
      anchors: how many.
      condition: of the covariance that rows are drawn from.
      noise: as of `ja.data.planted_pairs`.
      reflect: determinant -1.
      steps: that optimisers may take.
    """

    name: str
    about: str
    width: int = 64
    anchors: int = 4096
    condition: float = 10.0
    noise: float = 0.1
    reflect: bool = False
    steps: int = 400

    def draw(self, seed: int) -> Problem:
        """Draw anchors; their moments are all that is kept."""
        planted = ja.data.planted_pairs(
            jax.random.key(seed),
            self.anchors,
            self.width,
            noise=self.noise,
            # Variances, the square of deviations, fall to 1 / condition.
            decay=0.5 * math.log(self.condition) / math.log(self.width),
            reflect=self.reflect,
            modalities=("image",),
        )
        empty = ja.moments.init_moments(self.width, self.width)
        return problem_of(
            ja.moments.update_moments(empty, *planted.pairs["image"]),
            self.name,
            self.about,
            steps=self.steps,
            seed=seed,
            planted=np.asarray(planted.rotation, np.float64),
        )

    def tiny(self) -> "Planted":
        """The same case at toy size."""
        return dataclasses.replace(
            self,
            width=8 if self.width == 64 else 12,
            anchors=max(24, self.anchors // 64),
            steps=40,
        )


PLANTED = (
    Planted("easy", "The case that the others differ from in one thing"),
    Planted(
        "cond 1e3",
        "Condition number 1,000 instead of 10",
        condition=1000.0,
        steps=2000,
    ),
    Planted("noise 1", "Noise as large as the signal", noise=1.0),
    Planted("96 rows", "Few anchors: 96 instead of 4,096", anchors=96, steps=2000),
    Planted("det -1", "A planted rotation of determinant -1", reflect=True),
    Planted("width 192", "Width 192 instead of 64", width=192),
)
