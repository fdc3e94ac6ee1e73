# SPDX-License-Identifier: Apache-2.0
"""Tuning by one rule for all: the setting that reaches the target at the least cost.

Cost is steps, or the seconds of a plain run where `Budget.timed`. Learning rates are
powers of two of a unit, from a likely one outwards to the first that reaches the
target, then on while the cost falls, and half powers beside the best two.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.solvers.problem import Judge, Problem

MOMENTA = (0.2, 0.4, 0.6, 0.8)
HORIZONS = (480, 240, 120, 60)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a user chooses.

    Attributes:
      variant: of a method: a metric, a retraction, a map.
      rate: learning rate; 0 for a line search.
      momentum: 0 for none.
      nesterov: whether momentum is Nesterov's.
      horizon: steps over which the rate falls to 0 by a cosine; 0 for a constant rate.
    """

    variant: str = ""
    rate: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    horizon: int = 0

    def __str__(self) -> str:
        words = [self.variant] if self.variant else []
        if self.rate:
            words.append(f"rate {self.rate:.3g}")
        if self.momentum:
            form = "nesterov" if self.nesterov else "momentum"
            words.append(f"{form} {self.momentum:g}")
        if self.horizon:
            words.append(f"cosine over {self.horizon}")
        return ", ".join(words)


@dataclasses.dataclass(frozen=True)
class Method:
    """An optimiser that is compared.

    Attributes:
      name: whose, and which.
      run: takes a problem, a setting, a number of steps and a watch, or None; returns
        the last iterate. The watch, a `Judge`, sees iterates, and ends the run if True.
      settings: to be tried, but for their rates.
      line_search: whether it finds its rate by itself.
      unit: of learning rates: what the likely one is for a problem.
    """

    name: str
    run: Callable[..., object]
    settings: tuple[Setting, ...] = (Setting(),)
    line_search: bool = False
    unit: Callable[[Problem], float] = lambda problem: 1.0


def step_length(problem: Problem) -> float:
    """Likely rate where it is the length of a step on the manifold, as Adam's is."""
    return math.sqrt(min(problem.shape))


def grid(
    variants: Sequence[str] = ("",),
    *,
    momenta: bool = False,
    nesterov: bool = False,
    adam: bool = False,
) -> tuple[Setting, ...]:
    """List settings: rates of Adam may have to fall, momentum has one of two forms."""
    found = []
    for variant in variants:
        if adam:
            found += [Setting(variant, horizon=length) for length in HORIZONS]
        found.append(Setting(variant))
        for momentum in MOMENTA if momenta else ():
            forms = (False, True) if nesterov else (False,)
            found += [Setting(variant, momentum=momentum, nesterov=f) for f in forms]
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a setting may take.

    Attributes:
      steps: at most.
      seconds: at most, until a setting of the same method has reached the target.
      patience: seconds that a method is tried for, before it counts as one that does
        not reach the target.
      rest: seconds before a run that is timed: threads of the judge's products keep the
        processors busy for a tenth of a second.
      finalists: settings of a method that go on from one width to the next.
      reach: lowest and highest power of two that a likely rate is tried times, before
        a setting has reached the target.
      timed: whether the cost is seconds; otherwise it is steps.
    """

    steps: int = 1000
    seconds: float = 1.0
    patience: float = 30.0
    rest: float = 0.15
    finalists: int = 3
    reach: tuple[int, int] = (-5, 5)
    timed: bool = True


# Once a setting of a method has reached the target, others of it are near.
_REACH_LATER = 3


@dataclasses.dataclass(frozen=True)
class Trial:
    """How a setting did: steps taken, their cost, the least excess seen."""

    setting: Setting
    steps: int
    cost: float
    reached: bool
    least: float


def tune(
    method: Method,
    problem: Problem,
    budget: Budget,
    before: Sequence[Trial] | None = None,
) -> list[Trial]:
    """Try the settings of a method; best first.

    Args:
      method: what is tuned.
      problem: what it is tuned on.
      budget: what a setting may take.
      before: trials at a smaller width: only the best of their settings are tried, from
        their rates on.
    """
    unit = method.unit(problem)
    trials: dict[Setting, Trial] = {}
    if before is None:
        starts = [(setting, 0) for setting in method.settings]
    else:
        starts = _finalists(before, unit, budget.finalists)
    until = time.perf_counter() + budget.patience
    for setting, exponent in starts:
        reached = any(one.reached for one in trials.values())
        if not reached and time.perf_counter() > until:
            break
        _climb(method, problem, budget, setting, unit, exponent, trials)
    for best in _ranked(trials)[:2]:
        if best.reached and not method.line_search:
            for factor in (2.0**0.5, 0.5**0.5):
                setting = dataclasses.replace(
                    best.setting, rate=best.setting.rate * factor
                )
                limit = 2.0 * best.cost if budget.timed else np.inf
                trials[setting] = try_setting(method, problem, setting, budget, limit)
    return _ranked(trials)


def _ranked(trials: Mapping[Setting, Trial]) -> list[Trial]:
    """Those that reached the target by their cost, then the others by their value."""
    return sorted(
        trials.values(),
        key=lambda one: (not one.reached, one.cost if one.reached else one.least),
    )


def _finalists(before, unit, most) -> list[tuple[Setting, int]]:
    """Settings of the best trials, with the exponents of their rates."""
    found: dict[Setting, int] = {}
    for trial in before:
        rate = trial.setting.rate
        setting = dataclasses.replace(trial.setting, rate=0.0)
        found.setdefault(setting, round(math.log2(rate / unit)) if rate else 0)
    return list(found.items())[:most]


def _climb(method, problem, budget, setting, unit, centre, trials) -> None:
    """Search the rates of a setting: outwards to the first that will do, then on."""

    def attempt(exponent: int) -> Trial:
        rate = 0.0 if method.line_search else unit * 2.0**exponent
        chosen = dataclasses.replace(setting, rate=rate)
        if chosen not in trials:
            trials[chosen] = try_setting(method, problem, chosen, budget, limit())
        return trials[chosen]

    def limit() -> float:
        costs = [one.cost for one in trials.values() if one.reached]
        # Twice, since a setting that is cut off must not be the fastest.
        return 2.0 * min(costs) if costs and budget.timed else budget.seconds

    if method.line_search:
        attempt(0)
        return
    any_reached = any(one.reached for one in trials.values())
    lowest, highest = budget.reach
    if any_reached:
        lowest, highest = max(lowest, -_REACH_LATER), min(highest, _REACH_LATER)
    outwards = sorted(range(lowest, highest + 1), key=lambda k: (abs(k), -k))
    until = time.perf_counter() + budget.patience
    first = None
    for offset in outwards:
        if attempt(centre + offset).reached:
            first = centre + offset
            break
        if time.perf_counter() > until:
            break
    if first is None:
        return
    for direction in (1, -1):
        exponent, best = first, attempt(first)
        while (found := attempt(exponent + direction)).reached:
            exponent += direction
            # A tie ends it too: rates beyond some change nothing for a bounded step.
            if found.cost >= best.cost:
                break
            best = found


def try_setting(
    method: Method, problem: Problem, setting: Setting, budget: Budget, limit: float
) -> Trial:
    """Run a setting under the judge's eye; then, if it is timed, by itself."""
    steps = min(budget.steps, setting.horizon or budget.steps)
    judge = Judge(problem, limit)
    method.run(problem, setting, steps, judge)
    cost = judge.elapsed if budget.timed else float(judge.steps)
    if judge.reached and budget.timed:
        times = []
        time.sleep(budget.rest)
        while len(times) < 3 and sum(times) < 1.0:
            began = time.perf_counter()
            method.run(problem, setting, judge.steps)
            times.append(time.perf_counter() - began)
        cost = min(times)
    return Trial(setting, judge.steps, cost, judge.reached, judge.least)
