# SPDX-License-Identifier: Apache-2.0
"""Convergence of solvers of one problem: log-log curves, a table and a text summary.

What is drawn is the excess ``(f - f*) / (f0 - f*)``, 1 at the start and 0 at the
optimum, against steps and seconds, and how far iterates are from orthonormal.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from jaxalign.report.document import table
from jaxalign.report.svg import COLORS, INK, add_legend, finish_axes, to_svg
from jaxalign.report.table import align_columns

TARGET = 1e-6
_LINES = ("-", "--", ":", "-.")
_MARKERS = ("*", "P", "X", "D")
# Below, excess and drift are rounding, and a logarithm would make much of them.
_FLOOR = 1e-12


@dataclasses.dataclass(frozen=True)
class Course:
    """An iteration on its way to the optimum.

    Attributes:
      label: the family, and after a comma the variant: families share a colour.
      steps: ascending from 1 or more, ``(k,)``.
      excess: after so many steps, ``(k,)``.
      drift: largest entry of ``|Q'Q - I|``, ``(k,)``.
      step_seconds: of one step.
      details: more columns of the table.
    """

    label: str
    steps: Int[np.ndarray, " k"]
    excess: Float[np.ndarray, " k"]
    drift: Float[np.ndarray, " k"]
    step_seconds: float
    details: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def seconds(self) -> Float[np.ndarray, " k"]:
        """Seconds after which each record was reached."""
        return self.steps * self.step_seconds

    def steps_to(self, target: float = TARGET) -> int | None:
        """Steps of the first record within the target, or None."""
        within = np.flatnonzero(np.abs(self.excess) <= target)
        return int(self.steps[within[0]]) if len(within) else None

    def seconds_to(self, target: float = TARGET) -> float | None:
        """Seconds of the first record within the target, or None."""
        steps = self.steps_to(target)
        return None if steps is None else steps * self.step_seconds

    def end(self) -> tuple[float, float]:
        """Return the excess at the end, and the largest drift."""
        return float(self.excess[-1]), float(self.drift.max())


@dataclasses.dataclass(frozen=True)
class Mark:
    """A closed-form solver.

    Attributes:
      label: a few words.
      seconds: of a solve.
      excess: there, a float.
      drift: largest entry of ``|Q'Q - I|``.
      details: more columns of the table.
    """

    label: str
    seconds: float
    excess: float
    drift: float
    details: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def seconds_to(self, target: float = TARGET) -> float | None:
        """Seconds of the solve if it ends within the target, or None."""
        return self.seconds if abs(self.excess) <= target else None

    def end(self) -> tuple[float, float]:
        """Return the excess, and the drift."""
        return self.excess, self.drift


@dataclasses.dataclass(frozen=True)
class Convergence:
    """All solvers of one problem.

    Attributes:
      courses: the iterations.
      marks: the closed forms.
      target: excess that counts as reached.
    """

    courses: Sequence[Course]
    marks: Sequence[Mark] = ()
    target: float = TARGET

    def fastest(self) -> Course | None:
        """Return the iteration that reaches the target in the least time."""
        seconds = [(one.seconds_to(self.target), one) for one in self.courses]
        reached = [(taken, one) for taken, one in seconds if taken is not None]
        return min(reached, key=lambda pair: pair[0], default=(0.0, None))[1]

    def solvers(self) -> list[Mark | Course]:
        """Return the closed forms, then the iterations."""
        return [*self.marks, *self.courses]

    def cells(self) -> dict[str, str]:
        """Return the time to the target of every solver, or where it ended."""
        found = {}
        for one in self.solvers():
            seconds = one.seconds_to(self.target)
            found[one.label] = (
                _at(one.end()[0]) if seconds is None else _seconds(seconds)
            )
        return found

    def table(self) -> str:
        """Set all numbers as HTML, a solver a line."""
        details = list(dict.fromkeys(k for one in self.solvers() for k in one.details))
        within = f"{self.target:.0e}".replace("e-0", "e-")
        heads = ["", f"seconds to {within}", f"steps to {within}", "a step"]
        heads += ["excess at the end", "largest drift", *details]
        lines = []
        for one in self.solvers():
            seconds, steps, step = one.seconds_to(self.target), None, "-"
            if isinstance(one, Course):
                steps, step = one.steps_to(self.target), _seconds(one.step_seconds)
            entries = [
                "not reached" if seconds is None else _seconds(seconds),
                "-" if steps is None else f"{steps:,}",
                step,
                *map(_power, one.end()),
                *(one.details.get(key, "-") for key in details),
            ]
            # A number and its unit stay on one line.
            lines.append([one.label, *(x.replace(" ", "\xa0") for x in entries)])
        return table(heads, lines)

    def draw(self, title: str) -> str:
        """Draw excess against steps and seconds, and drift against steps, as SVG.

        Args:
          title: for those who cannot see the figure.
        """
        figure = Figure(figsize=(12.6, 4.6), layout="constrained")
        by_steps, by_seconds, drift = figure.subplots(1, 3)
        handles = {}
        for course, (color, line) in zip(self.courses, self._styles(), strict=True):
            style = {"color": color, "linestyle": line, "linewidth": 1.5}
            excess = _clipped(course.excess)
            (handles[course.label],) = by_steps.plot(course.steps, excess, **style)
            by_seconds.plot(course.seconds, excess, **style)
            drift.plot(course.steps, _clipped(course.drift), **style)
        for mark, marker in zip(self.marks, _MARKERS, strict=False):
            (handles[mark.label],) = by_seconds.plot(
                [mark.seconds],
                _clipped(np.array([mark.excess])),
                color=INK,
                marker=marker,
                markersize=8,
                linestyle="none",
                clip_on=False,
            )
        titles = ("Excess against steps", "Excess against seconds", "Drift, |Q'Q - I|")
        for axes, name in zip((by_steps, by_seconds, drift), titles, strict=True):
            axes.set(xscale="log", yscale="log", xlabel="steps")
            finish_axes(axes, name)
        by_seconds.set_xlabel("seconds")
        for axes in (by_steps, by_seconds):
            axes.set_ylim(_FLOOR, 3.0)
            axes.axhline(self.target, color=INK, linewidth=1, linestyle=":")
        add_legend(figure, handles)
        return to_svg(figure, f"Convergence of solvers: {title}")

    def _styles(self) -> list[tuple[str, str]]:
        """A colour for each family, a line for each of its members."""
        families: dict[str, int] = {}
        styles = []
        for course in self.courses:
            family = course.label.split(",")[0]
            members = families.setdefault(family, 0)
            families[family] += 1
            color = COLORS[list(families).index(family) % len(COLORS)]
            styles.append((color, _LINES[members % len(_LINES)]))
        return styles


def format_convergence(cases: Mapping[str, Convergence]) -> str:
    """Lay out a terminal's table: solvers down, problems across, seconds to the target.

    Args:
      cases: by a short name; all of the same solvers.

    >>> course = Course("descent", np.array([1, 9]), np.array([1.0, 0.0]), np.ones(2),
    ...     0.01)
    >>> print(format_convergence({"small": Convergence([course])}))
             small
    --------------
    descent  90 ms
    """
    columns = {name: one.cells() for name, one in cases.items()}
    labels = list(dict.fromkeys(label for cells in columns.values() for label in cells))
    lines = [
        [label, *(cells.get(label, "-") for cells in columns.values())]
        for label in labels
    ]
    return "\n".join(align_columns([["", *columns]], lines))


def _clipped(values: np.ndarray) -> np.ndarray:
    """Numbers that a logarithmic axis can show."""
    return np.maximum(np.abs(np.asarray(values, np.float64)), _FLOOR)


def _at(excess: float) -> str:
    """Format the excess of a solver that missed the target."""
    return f"at {excess:.0e}" if np.isfinite(excess) else "diverged"


def _power(value: float) -> str:
    """Give a small number by its size."""
    if not np.isfinite(value):
        return "not finite"
    return "below 1e-12" if abs(value) < _FLOOR else f"{value:.1e}"


def _seconds(value: float) -> str:
    """Give a time in the unit that suits it."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if value * factor >= 1.0:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.0f} us"
