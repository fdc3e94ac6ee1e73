# SPDX-License-Identifier: Apache-2.0
"""A sweep over the number of anchor classes: curves, tables and a sentence."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from jaxalign.errors import ArgumentError
from jaxalign.evaluate.rows import METRICS, NATIVE_TARGET, ResultRow
from jaxalign.report.curves import Curve, draw_curves
from jaxalign.report.document import table

PANELS = (
    "image_cosine",
    "caption_cosine",
    "class_text_cosine",
    "image_class_top1",
    "text_class_top1",
    "text_to_text_at_1",
    "zeroshot_mapped_image_to_target_text",
    "zeroshot_mapped_image_to_mapped_text",
    "source_image_to_target_text_at_1",
)
# What the target model reaches by itself, where a metric has such a counterpart.
_NATIVE = {
    "zeroshot_mapped_image_to_target_text": "zeroshot",
    "source_image_to_target_text_at_1": "image_to_text_at_1",
}
_SUFFIX = " classes"
# A number of classes is enough if it reaches this share of what all reach.
_ENOUGH = 0.9


def method_of(classes: int) -> str:
    """Name the method of rows whose map was fitted on so many classes.

    >>> method_of(5)
    '5 classes'
    """
    return f"{classes}{_SUFFIX}"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Rows of a sweep, ready to be drawn.

    Attributes:
      curves: metric to one curve for each table, in order.
      levels: metric to the name and height of what does not depend on the number.
    """

    curves: dict[str, list[Curve]]
    levels: dict[str, tuple[str, float]]

    @classmethod
    def of(cls, rows: Iterable[ResultRow], tables: Sequence[str]) -> "Sweep":
        """Gather the rows of these tables; each seed is a draw.

        Args:
          rows: of `evaluate_map` under the names of `method_of`, and of
            `evaluate_native` for the levels.
          tables: which, in the order of the legend.

        Raises:
          ValueError: if no row is one of a sweep.
        """
        rows = list(rows)
        curves = {
            metric: [_curve(rows, name, metric) for name in tables] for metric in PANELS
        }
        if not all(len(c.places) for found in curves.values() for c in found):
            raise ArgumentError(
                f"Sweep.of(rows=..., tables={tuple(tables)})",
                "rows of maps fitted on several numbers of classes",
                remedy="name them by `method_of`",
            )
        return cls(curves, _levels(rows))

    def draw(self, *, axis: str) -> str:
        """Draw a panel for each metric, as SVG."""
        return draw_curves(self.curves, axis=axis, levels=self.levels)

    def tables(self, *, axis: str) -> str:
        """Set the means over draws as HTML, a table for each of the sweep's."""
        parts = []
        for index, first in enumerate(self.curves[PANELS[0]]):
            lines = []
            for metric, curves in self.curves.items():
                share = METRICS[metric].unit == "share"
                means = curves[index].means
                shown = [f"{100 * m:.1f} %" if share else f"{m:.2f}" for m in means]
                lines.append([METRICS[metric].label, *shown])
            heads = [first.label, *(f"{axis} = {n:g}" for n in first.places)]
            parts.append(table(heads, lines))
        return "<br>".join(parts)

    def describe(self, name: str, metric: str = "text_to_text_at_1") -> str:
        """Say how many classes do nearly as well as all."""
        curve = next(c for c in self.curves[metric] if c.label == name)
        means = curve.means
        enough = int(np.argmax(means >= _ENOUGH * means[-1]))
        return (
            f"On {name}, {METRICS[metric].label} is {100 * means[-1]:.0f} % with "
            f"{curve.places[-1]:g} classes of anchors; {curve.places[enough]:g} reach "
            f"nine tenths of that ({100 * means[enough]:.0f} %)."
        )


def _curve(rows: Sequence[ResultRow], name: str, metric: str) -> Curve:
    """Order the values of one metric by number and draw."""
    values: dict[int, list[float]] = {}
    for row in rows:
        count = row.method.removesuffix(_SUFFIX)
        if (row.table, row.metric) == (name, metric) and count.isdigit():
            value = np.nan if row.value is None else row.value
            values.setdefault(int(count), []).append(value)
    places = sorted(values)
    # A seed may have too few classes for the largest number of another.
    draws = max(map(len, values.values()), default=0)
    filled = [values[n] + [np.nan] * (draws - len(values[n])) for n in places]
    return Curve(name, places, np.array(filled))


def _levels(rows: Sequence[ResultRow]) -> dict[str, tuple[str, float]]:
    """Mean over rows of what the target model reaches by itself."""
    found = {}
    for metric, native in _NATIVE.items():
        values = [
            row.value
            for row in rows
            if (row.method, row.metric) == (NATIVE_TARGET, native)
            and row.value is not None
        ]
        if values:
            found[metric] = (NATIVE_TARGET, float(np.mean(values)))
    return found
