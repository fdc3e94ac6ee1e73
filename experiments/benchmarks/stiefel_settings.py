# SPDX-License-Identifier: Apache-2.0
"""Tuning by one rule for all: the setting that reaches the target in the least time.

Learning rates are powers of two over the largest singular value, which is 1, and half
powers beside the best two; momentum is one of four values, with Nesterov's form or
without, where a method offers it; rates of Adam-like methods are constant or fall to 0
by a cosine.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.benchmarks.stiefel_problem import Judge, Problem

Watch = Callable[[np.ndarray], bool]
MOMENTA = (0.2, 0.4, 0.6, 0.8)
HORIZONS = (480, 240, 120, 60)
# From a likely rate, so many powers of two either way.
_REACH = 5
_REACH_LATER = 3


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


def frobenius(d: int) -> int:
    """Exponent of a likely rate, where it is the length of a step, not a multiple."""
    return round(np.log2(d**0.5))


@dataclasses.dataclass(frozen=True)
class Method:
    """An optimiser that is compared.

    Attributes:
      name: whose, and which.
      run: takes a problem, a setting, a number of steps and a watch, or None; returns
        the last iterate. The watch sees every iterate, and ends the run if True.
      momenta: whether it has momentum.
      nesterov: whether it has Nesterov's form of it.
      adam: whether its rate may have to fall.
      line_search: whether it finds its rate by itself.
      variants: what else a user can choose.
      likely: exponent of two of the rate that the search begins at, for a width.
    """

    name: str
    run: Callable[..., np.ndarray]
    momenta: bool = False
    nesterov: bool = False
    adam: bool = False
    line_search: bool = False
    variants: tuple[str, ...] = ("",)
    likely: Callable[[int], int] = lambda d: 0

    def shapes(self) -> list[Setting]:
        """Return the settings to be tried, but for their rates."""
        found = []
        for variant in self.variants:
            if self.adam:
                found += [Setting(variant, horizon=length) for length in HORIZONS]
            found.append(Setting(variant))
            for momentum in MOMENTA if self.momenta else ():
                found.append(Setting(variant, 0.0, momentum))
                if self.nesterov:
                    found.append(Setting(variant, 0.0, momentum, True))
        return found


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
    """

    steps: int = 1000
    seconds: float = 1.0
    patience: float = 30.0
    rest: float = 0.15
    finalists: int = 3


@dataclasses.dataclass(frozen=True)
class Trial:
    """How a setting did: steps taken, seconds of a plain run, the least value seen."""

    setting: Setting
    steps: int
    seconds: float
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
      before: trials at a smaller width: only the best of their shapes are tried, from
        their rates on.
    """
    trials: dict[Setting, Trial] = {}
    if before is None:
        centre = method.likely(problem.start.shape[0])
        starts = [(shape, centre) for shape in method.shapes()]
    else:
        starts = _finalists(before, budget.finalists)
    until = time.perf_counter() + budget.patience
    for shape, exponent in starts:
        reached = any(one.reached for one in trials.values())
        if not reached and time.perf_counter() > until:
            break
        _climb(method, problem, budget, shape, exponent, trials)
    for best in _ranked(trials)[:2]:
        if best.reached and not method.line_search:
            for factor in (2.0**0.5, 0.5**0.5):
                setting = dataclasses.replace(
                    best.setting, rate=best.setting.rate * factor
                )
                limit = 2.0 * best.seconds
                trials[setting] = try_setting(method, problem, setting, budget, limit)
    return _ranked(trials)


def _ranked(trials: Mapping[Setting, Trial]) -> list[Trial]:
    """Those that reached the target by their time, then the others by their value."""
    return sorted(
        trials.values(),
        key=lambda one: (not one.reached, one.seconds if one.reached else one.least),
    )


def _finalists(before: Sequence[Trial], most: int) -> list[tuple[Setting, int]]:
    """Shapes of the best trials, with the exponents of their rates."""
    found: dict[Setting, int] = {}
    for trial in before:
        shape = dataclasses.replace(trial.setting, rate=0.0)
        rate = trial.setting.rate
        found.setdefault(shape, round(np.log2(rate)) if rate else 0)
    return list(found.items())[:most]


def _climb(method, problem, budget, shape, centre, trials) -> None:
    """Search the rates of a shape: outwards to the first that will do, then on."""

    def attempt(exponent: int) -> Trial:
        rate = 0.0 if method.line_search else 2.0**exponent
        setting = dataclasses.replace(shape, rate=rate)
        if setting not in trials:
            trials[setting] = try_setting(method, problem, setting, budget, limit())
        return trials[setting]

    def limit() -> float:
        times = [one.seconds for one in trials.values() if one.reached]
        # Twice, since a setting that is cut off must not be the fastest.
        return 2.0 * min(times) if times else budget.seconds

    if method.line_search:
        attempt(0)
        return
    any_reached = any(one.reached for one in trials.values())
    reach = _REACH_LATER if any_reached else _REACH
    outwards = [centre + sign * k for k in range(reach + 1) for sign in (1, -1)]
    until = time.perf_counter() + budget.patience
    first = None
    for exponent in dict.fromkeys(outwards):
        if attempt(exponent).reached:
            first = exponent
            break
        if time.perf_counter() > until:
            break
    if first is None:
        return
    for direction in (1, -1):
        exponent, best = first, attempt(first)
        while (found := attempt(exponent + direction)).reached:
            exponent += direction
            if found.seconds > best.seconds:
                break
            best = found


def try_setting(
    method: Method, problem: Problem, setting: Setting, budget: Budget, limit: float
) -> Trial:
    """Run a setting under the judge's eye; then, if it gets there, by itself."""
    steps = min(budget.steps, setting.horizon or budget.steps)
    judge = Judge(problem, limit)
    method.run(problem, setting, steps, judge)
    seconds = judge.elapsed
    if judge.reached:
        times = []
        time.sleep(budget.rest)
        while len(times) < 3 and sum(times) < 1.0:
            began = time.perf_counter()
            method.run(problem, setting, judge.steps)
            times.append(time.perf_counter() - began)
        seconds = min(times)
    return Trial(setting, judge.steps, seconds, judge.reached, judge.least)
