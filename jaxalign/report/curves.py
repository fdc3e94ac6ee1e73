# SPDX-License-Identifier: Apache-2.0
"""Metrics against a number (of classes, of anchors) as curves, one panel a metric."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxalign.evaluate.rows import METRICS
from jaxalign.report.svg import COLORS, INK, add_legend, finish_axes, to_svg

_COLUMNS = 3


@dataclasses.dataclass(frozen=True)
class Curve:
    """One metric of one table against a number.

    Attributes:
      label: for the legend.
      places: (k,) numbers, ascending.
      values: (k, draws), NaN where a draw has no value.
    """

    label: str
    places: Sequence[int]
    values: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """Mean over the draws that have a value, (k,)."""
        return np.nanmean(np.asarray(self.values, np.float64), axis=1)


def draw_curves(
    panels: Mapping[str, Sequence[Curve]],
    *,
    axis: str,
    levels: Mapping[str, tuple[str, float]] = {},
) -> str:
    """Draw the mean over draws, and the range of the draws as a band.

    Args:
      panels: metric (a key of `METRICS`) to its curves.
      axis: label of the numbers.
      levels: metric to a level that does not depend on the number, with its name.

    Returns:
      An SVG element.
    """
    count = len(panels)
    columns = min(_COLUMNS, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(4.2 * columns, 0.6 + 2.9 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    handles = {}
    for axes, (metric, curves) in zip(grid.flat, panels.items(), strict=False):
        factor = 100.0 if METRICS[metric].unit == "share" else 1.0
        for color, curve in zip(COLORS, curves, strict=False):
            values = factor * np.asarray(curve.values, np.float64)
            (line,) = axes.plot(
                curve.places,
                factor * curve.means,
                color=color,
                marker="o",
                markersize=3.5,
                label=curve.label,
            )
            axes.fill_between(
                curve.places,
                np.nanmin(values, axis=1),
                np.nanmax(values, axis=1),
                color=color,
                alpha=0.18,
                linewidth=0,
            )
            handles.setdefault(curve.label, line)
        if metric in levels:
            name, level = levels[metric]
            line = axes.axhline(factor * level, color=INK, linewidth=1, linestyle=":")
            handles.setdefault(name, line)
        finish_axes(axes, METRICS[metric].label.replace("->", "→"))
        axes.set_ylabel("cosine" if factor == 1.0 else "%")
        axes.set_xlabel(axis)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    for axes in grid.flat[count:]:
        axes.set_axis_off()
    add_legend(figure, handles)
    return to_svg(figure, f"Curves of the metrics against {axis}")
