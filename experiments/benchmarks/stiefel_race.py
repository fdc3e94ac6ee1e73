# SPDX-License-Identifier: Apache-2.0
"""Time to the minimum: our Stiefel optimisers, their peers, and the closed form."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
from tqdm import tqdm

import jaxalign as ja
from experiments.benchmarks.alternating import median_seconds
from experiments.benchmarks.lines import Line
from experiments.benchmarks.stiefel_peers import peers
from experiments.solvers.problem import TARGET, Problem, plant
from experiments.solvers.table import compiled_records, own_methods, part
from experiments.solvers.tuning import Budget, Method, Trial, tune
from jaxalign.solve.polar import POLAR_METHODS


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large the comparisons are.

    Attributes:
      widths: ascending; settings are tuned at the first, their best at the others.
      condition: of the cross-covariance.
      conditions: of the growth with the condition number.
      growth_width: of the same.
      drift_widths: of the drift.
      drift_steps: of the same.
      only: parts of the names of methods; empty: all.
      budget: of a setting at the first width; at others it may take longer, by the
        widths' ratio to the power of 3/2, and a method twice as long.
      rest: seconds of sleep before what is timed.
      thorough: try all variants and momenta.
    """

    widths: tuple[int, ...] = (128, 512, 768)
    condition: float = 10.0
    conditions: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0)
    growth_width: int = 512
    drift_widths: tuple[int, ...] = (64, 128)
    drift_steps: int = 10_000
    budget: Budget = Budget()
    rest: float = 0.3
    thorough: bool = True
    only: tuple[str, ...] = ()

    def of(self, methods: Sequence[Method]) -> dict[str, Method]:
        """Return methods by name, with the settings to be tried."""
        chosen = {}
        for one in methods:
            settings = one.settings
            if not self.thorough:
                first = settings[0].variant
                settings = [
                    s for s in settings if s.variant == first and not s.momentum
                ]
            if not self.only or any(word in one.name for word in self.only):
                chosen[one.name] = dataclasses.replace(one, settings=tuple(settings))
        return chosen


def time_race(sizes: Sizes, rounds: int) -> Iterator[list[Line]]:
    """Time all methods to the target, each at its best setting; a width at a time."""
    methods, before = sizes.of(own_methods() + peers()), {}
    for d in sizes.widths:
        problem = plant(d, sizes.condition)
        before = _tune_all(methods, problem, sizes, before)
        winners = {name: trials[0] for name, trials in before.items()}
        calls = {
            name: _call(methods[name], problem, trial)
            for name, trial in winners.items()
            if trial.reached
        }
        seconds = median_seconds(calls, rounds=rounds, warmups=1, rest=sizes.rest)
        title = (
            f"to {TARGET:g} of the start's excess, Procrustes from moments, d = {d}, "
            f"condition {sizes.condition:g}"
        )
        yield [
            *_race_lines(title, winners, seconds),
            *_compile_lines(title, problem, winners),
        ]


def time_growth(sizes: Sizes, rounds: int) -> Iterator[list[Line]]:
    """Time our best optimiser against the closed form, over condition numbers.

    A condition number at a time.
    """
    d, methods = sizes.growth_width, sizes.of(own_methods())
    for condition in sizes.conditions:
        small = plant(min(sizes.widths[0], d), condition)
        before = _tune_all(methods, small, sizes, {})
        # The fastest few are enough, where only the best one counts.
        few = _fastest(before)[:3]
        problem = plant(d, condition)
        found = _tune_all(
            {name: methods[name] for name in few},
            problem,
            sizes,
            {name: before[name] for name in few},
        )
        calls = _closed_forms(problem)
        winner = next(iter(_fastest(found)), None)
        if winner is not None:
            calls[winner] = _call(methods[winner], problem, found[winner][0])
        seconds = median_seconds(calls, rounds=rounds, warmups=1, rest=sizes.rest)
        title = (
            f"our best optimiser and the closed form, d = {d}, condition {condition:g}"
        )
        lines = [
            Line(title, f"closed form, {name}", seconds[name]) for name in POLAR_METHODS
        ]
        if winner is None:
            values = [one.least for trials in found.values() for one in trials]
            least = f"least {min(values):.0e}" if values else ""
            yield [*lines, Line(title, "no optimiser reached it", note=least)]
            continue
        fastest = min(POLAR_METHODS, key=lambda name: seconds[name])
        yield lines + [
            Line(
                title,
                f"{winner}, of {name}",
                seconds[winner],
                ratio=seconds[winner] / seconds[name],
                at_most=20.0 if condition == sizes.condition else None,
                note=_words(found[winner][0]),
            )
            for name in dict.fromkeys(("svd", fastest))
        ]


def _tune_all(
    methods: Mapping[str, Method],
    problem: Problem,
    sizes: Sizes,
    before: Mapping[str, list[Trial]],
) -> dict[str, list[Trial]]:
    """Tune each method, from its trials at a smaller width if there are any."""
    d, found = problem.start.shape[0], {}
    # A step costs more where matrices are larger.
    longer = max(1.0, (d / sizes.widths[0]) ** 1.5)
    budget = dataclasses.replace(
        sizes.budget,
        seconds=sizes.budget.seconds * longer,
        patience=sizes.budget.patience * (2.0 if longer > 1.0 else 1.0),
    )
    for name, method in tqdm(methods.items(), desc=f"Tuning, d = {d}", leave=False):
        earlier = before.get(name)
        if earlier and not earlier[0].reached:
            # A larger problem is no easier.
            found[name] = [dataclasses.replace(earlier[0], steps=0)]
            continue
        found[name] = tune(method, problem, budget, earlier)
    return found


def _fastest(found: Mapping[str, list[Trial]]) -> list[str]:
    """Names of the methods that reached the target, the fastest first."""
    reached = [name for name, trials in found.items() if trials[0].reached]
    return sorted(reached, key=lambda name: found[name][0].cost)


def _call(method: Method, problem: Problem, trial: Trial) -> Callable[[], object]:
    """A plain run of as many steps as a trial took."""
    return functools.partial(method.run, problem, trial.setting, trial.steps)


def _race_lines(title, winners, seconds) -> list[Line]:
    """Ours by name, then the peers against our best."""
    own = [name for name in winners if name.startswith("jaxalign") and name in seconds]
    best = min((seconds[name] for name in own), default=None)
    lines = []
    for name, trial in winners.items():
        if name not in seconds:
            words = f"not reached: {trial.least:.0e} after {trial.steps} steps"
            if not trial.steps:
                words = "not tried: not reached at a smaller width"
            lines.append(Line(title, name, note=f"{words}; {trial.setting}"))
            continue
        lines.append(
            Line(
                title,
                name,
                seconds[name],
                ratio=None if best is None else seconds[name] / best,
                wanted=None if name in own else 3.0,
                note=_words(trial),
            )
        )
    return lines


def _compile_lines(title, problem, winners) -> list[Line]:
    """What compiling takes, which the times above leave out."""
    lines = []
    for name, trial in winners.items():
        whose, _, solver = name.partition(" ")
        if whose == "jaxalign":
            form, _ = part(solver, trial.setting)
            _, seconds = compiled_records(form, problem.shape)
            lines.append(Line(title, f"compiling, {name}", seconds))
    return lines


def _closed_forms(problem: Problem) -> dict[str, Callable[[], object]]:
    """The closed form by each method."""
    cross = jax.device_put(problem.cross)

    def solve(method) -> Callable[[], object]:
        return lambda: jax.block_until_ready(
            ja.solve.polar_factor(cross, method=method)
        )

    return {name: solve(name) for name in POLAR_METHODS}


def _words(trial: Trial) -> str:
    return f"{trial.steps} steps; {trial.setting}"
