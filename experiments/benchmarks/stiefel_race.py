# SPDX-License-Identifier: Apache-2.0
"""Time to the minimum: our Stiefel optimisers, their peers, and the closed form."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

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
class Race:
    """How large the races are.

    Attributes:
      widths: ascending; settings are tuned at the first, their best at the others.
      condition: of the cross-covariance.
      conditions: of the growth with the condition number.
      growth_width: of the same.
      only: parts of the names of methods; none: all.
      budget: of a setting at the first width; at others it may take longer, by the
        widths' ratio to the power of 3/2, and a method twice as long.
    """

    widths: tuple[int, ...] = (128, 512, 768)
    condition: float = 10.0
    conditions: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0)
    growth_width: int = 512
    budget: Budget = Budget()
    rest: float = 0.3
    thorough: bool = True
    only: tuple[str, ...] = ()

    def of(self, methods: Sequence[Method]) -> list[Method]:
        """Return methods with the settings to be tried."""
        methods = [
            one
            for one in methods
            if not self.only or any(word in one.name for word in self.only)
        ]
        if self.thorough:
            return methods
        # The first variant, without momentum.
        return [
            dataclasses.replace(
                one,
                settings=tuple(
                    setting
                    for setting in one.settings
                    if setting.variant == one.settings[0].variant
                    and not setting.momentum
                ),
            )
            for one in methods
        ]


def time_race(race: Race, rounds: int) -> Iterator[list[Line]]:
    """Time all methods to the target, each at its best setting; a width at a time."""
    methods, before = race.of(own_methods() + peers()), {}
    for d in race.widths:
        problem = plant(d, race.condition)
        before = _tune_all(methods, problem, _scaled(race, d), before)
        winners = {name: trials[0] for name, trials in before.items() if trials}
        seconds = _in_turns(race, methods, problem, winners, rounds)
        title = (
            f"to {TARGET:g} of the start's excess, Procrustes from moments, d = {d}, "
            f"condition {race.condition:g}"
        )
        yield [
            *_race_lines(title, winners, seconds),
            *_compile_lines(title, problem, winners),
        ]


def time_growth(race: Race, rounds: int) -> Iterator[list[Line]]:
    """Time our best optimiser against the closed form, over condition numbers.

    A condition number at a time.
    """
    d = race.growth_width
    methods = race.of(own_methods())
    for condition in race.conditions:
        small = plant(min(race.widths[0], d), condition)
        before = _tune_all(methods, small, race.budget, {})
        # The fastest few are enough, where only the best one counts.
        order = sorted(
            (name for name in before if before[name] and before[name][0].reached),
            key=lambda name: before[name][0].cost,
        )[:3]
        chosen = [one for one in methods if one.name in order]
        problem = plant(d, condition)
        found = _tune_all(
            chosen, problem, _scaled(race, d), {name: before[name] for name in order}
        )
        reached = [
            (trials[0].cost, name)
            for name, trials in found.items()
            if trials and trials[0].reached
        ]
        calls = _closed_forms(problem)
        winner = min(reached)[1] if reached else None
        if winner is not None:
            calls[winner] = _call(methods, problem, winner, found[winner][0])
        seconds = median_seconds(calls, rounds=rounds, warmups=1, rest=race.rest)
        title = (
            f"our best optimiser and the closed form, d = {d}, condition {condition:g}"
        )
        closed = {name: seconds[name] for name in POLAR_METHODS}
        lines = [Line(title, f"closed form, {name}", closed[name]) for name in closed]
        fastest = min(closed, key=lambda name: closed[name])
        if winner is None:
            yield [*lines, Line(title, "no optimiser reached it", note=_least(found))]
            continue
        for name in dict.fromkeys(("svd", fastest)):
            lines.append(
                Line(
                    title,
                    f"{winner}, of {name}",
                    seconds[winner],
                    ratio=seconds[winner] / closed[name],
                    at_most=20.0 if condition == race.condition else None,
                    note=_words(found[winner][0]),
                )
            )
        yield lines


def _scaled(race: Race, d: int) -> Budget:
    """Allow for the cost of a step."""
    longer = max(1.0, (d / race.widths[0]) ** 1.5)
    patience = race.budget.patience * (2.0 if longer > 1.0 else 1.0)
    return dataclasses.replace(
        race.budget, seconds=race.budget.seconds * longer, patience=patience
    )


def _tune_all(
    methods: Sequence[Method],
    problem: Problem,
    budget: Budget,
    before: dict[str, list[Trial]],
) -> dict[str, list[Trial]]:
    """Tune each method, from its trials at a smaller width if there are any."""
    d, found = problem.start.shape[0], {}
    for method in tqdm(methods, desc=f"Tuning, d = {d}", leave=False):
        earlier = before.get(method.name)
        if earlier and not earlier[0].reached:
            # A larger problem is no easier.
            found[method.name] = [dataclasses.replace(earlier[0], steps=0)]
            continue
        found[method.name] = tune(method, problem, budget, earlier)
    return found


def _call(
    methods: Sequence[Method], problem: Problem, name: str, trial: Trial
) -> Callable[[], object]:
    """A plain run of as many steps as a trial took."""
    (method,) = (one for one in methods if one.name == name)
    return functools.partial(method.run, problem, trial.setting, trial.steps)


def _in_turns(race, methods, problem, winners, rounds) -> dict[str, float]:
    """Median seconds of those that reach the target."""
    calls = {
        name: _call(methods, problem, name, trial)
        for name, trial in winners.items()
        if trial.reached
    }
    return median_seconds(calls, rounds=rounds, warmups=1, rest=race.rest)


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
        ours = name in own
        lines.append(
            Line(
                title,
                name,
                seconds[name],
                ratio=None if best is None else seconds[name] / best,
                wanted=None if ours else 3.0,
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
        return lambda: jax.block_until_ready(ja.polar_factor(cross, method=method))

    return {name: solve(name) for name in POLAR_METHODS}


def _words(trial: Trial) -> str:
    return f"{trial.steps} steps; {trial.setting}"


def _least(found) -> str:
    values = [one.least for trials in found.values() for one in trials]
    return f"least {min(values):.0e}" if values else ""
