# SPDX-License-Identifier: Apache-2.0
"""Figures of the report as inline SVG: bars before and after, similarity heat maps.

Drawn with Matplotlib's objects, without pyplot and its global state. Text stays text
and takes the page's colour, so that a figure can be read on light and on dark.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from jaxalign.evaluate.rows import MEAN_ONLY, METRICS, NATIVE_TARGET, NO_MAP
from jaxalign.report.similarities import SimilarityMaps
from jaxalign.report.summary import Cells, pick_methods
from jaxalign.report.svg import COLORS, INK, add_legend, finish_axes, to_svg

_BEFORE_COLORS = {NO_MAP: "#8c8c8c", MEAN_ONLY: "#e69f00"}
_AFTER_COLORS = [color for color in COLORS if color not in _BEFORE_COLORS.values()]

_COSINES = (
    "image_cosine",
    "caption_cosine",
    "class_text_cosine",
    "image_centred_cosine",
    "caption_centred_cosine",
)
_SHARES = (
    "image_class_top1",
    "text_class_top1",
    "zeroshot_mapped_image_to_target_text",
    "text_to_text_at_1",
    "source_image_to_target_text_at_1",
    "target_image_to_source_text_at_1",
)
# What the target model reaches by itself where a metric has such a counterpart.
_NATIVE = {
    "zeroshot_mapped_image_to_target_text": "zeroshot",
    "source_image_to_target_text_at_1": "image_to_text_at_1",
    "target_image_to_source_text_at_1": "image_to_text_at_1",
}


def draw_bars(cells: Cells, methods: Sequence[str]) -> str:
    """Draw cosines and shares of several methods side by side.

    Args:
      cells: one table, as `summary.collect` gives it.
      methods: methods to draw, those before first; unknown ones are left out.

    Returns:
      An SVG element; empty text if there is nothing to draw.
    """
    methods = pick_methods(cells, methods)
    panels = [
        (title, unit, factor, present)
        for title, unit, factor, metrics in (
            ("Cosine of pairs", "cosine", 1.0, _COSINES),
            ("Found at the first place", "% of queries", 100.0, _SHARES),
        )
        if (present := [m for m in metrics if _known(cells, methods, m)])
    ]
    if not panels:
        return ""
    bars = max(len(panel[3]) for panel in panels) * (len(methods) + 1)
    figure = Figure(figsize=(12, 1.4 + 0.125 * bars), layout="constrained")
    all_axes = figure.subplots(1, len(panels), squeeze=False)
    for axes, (title, unit, factor, metrics) in zip(all_axes[0], panels, strict=True):
        _draw_panel(axes, cells, methods, metrics, factor)
        finish_axes(axes, title, grid="x")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(unit)
    handles = dict(
        zip(*reversed(all_axes[0, -1].get_legend_handles_labels()), strict=True)
    )
    names = [*(name for name in methods if name in handles), *handles]
    add_legend(figure, {name: handles[name] for name in names})
    return to_svg(figure, "Bar charts of the metrics before and after mapping")


def _draw_panel(axes, cells: Cells, methods, metrics, factor: float) -> None:
    """Draw one group of horizontal bars per metric."""
    height = 0.8 / len(methods)
    places = np.arange(len(metrics))
    after = [name for name in methods if name not in _BEFORE_COLORS]
    for i, name in enumerate(methods):
        found = [cells[name].get(metric) for metric in metrics]
        values = [
            factor * (c.value if c and c.value is not None else np.nan) for c in found
        ]
        errors = np.zeros((2, len(metrics)))
        for j, cell in enumerate(found):
            if cell and cell.interval and cell.value is not None:
                low, high = cell.interval
                errors[:, j] = (
                    factor * max(cell.value - low, 0.0),
                    factor * max(high - cell.value, 0.0),
                )
        color = _BEFORE_COLORS.get(name)
        color = color or _AFTER_COLORS[after.index(name) % len(_AFTER_COLORS)]
        y = places - 0.4 + height * (i + 0.5)
        axes.barh(y, values, 0.92 * height, color=color, label=name)
        axes.errorbar(
            values, y, xerr=errors, fmt="none", ecolor=INK, elinewidth=0.8, capsize=1.5
        )
    _draw_native(axes, cells, metrics, factor)
    axes.set_yticks(
        places, [METRICS[metric].label.replace("->", "→") for metric in metrics]
    )
    axes.set_ylim(len(metrics) - 0.5, -0.5)
    axes.axvline(0, color=INK, linewidth=0.8)
    low = min(0.0, axes.get_xlim()[0])
    axes.set_xlim(low, factor)
    axes.tick_params(axis="y", length=0)


def _draw_native(axes, cells: Cells, metrics, factor: float) -> None:
    """Mark what the target model reaches by itself."""
    native = cells.get(NATIVE_TARGET, {})
    label = f"{NATIVE_TARGET} (re-embedded)"
    for i, metric in enumerate(metrics):
        cell = native.get(_NATIVE.get(metric, ""))
        if cell is not None and cell.value is not None:
            x = factor * cell.value
            axes.vlines(x, i - 0.45, i + 0.45, color=INK, linewidth=2, label=label)
            label = None


def draw_similarities(maps: SimilarityMaps) -> str:
    """Draw heat maps of image x text cosines on one colour scale.

    Args:
      maps: the cosines; NaN is left blank.

    Returns:
      An SVG element.
    """
    panels = [
        ("Source model", maps.source, "source image", "source text"),
        ("Target model", maps.target, "target image", "target text"),
        ("Aligned", maps.mapped, "mapped source image", "target text"),
    ]
    if maps.unmapped is not None:
        before = ("Before: no map", maps.unmapped, "source image", "target text")
        panels.insert(2, before)
    values = np.concatenate([np.ravel(panel[1]) for panel in panels])
    low, high = np.nanmin(values), np.nanmax(values)
    count, longest = len(maps.labels), max(map(len, maps.labels))
    size, margin = max(2.5, 0.118 * count), 0.055 * longest + 0.4
    figure = Figure(
        figsize=(2 * size + margin + 1.8, 2 * size + margin + 1.4),
        layout=ConstrainedLayoutEngine(h_pad=0.12),
    )
    grid = figure.subplots(2, 2)
    for axes, panel in zip(grid.flat, panels, strict=False):
        title, table, rows, columns = panel
        axes.imshow(
            np.asarray(table), vmin=low, vmax=high, cmap="viridis", interpolation="none"
        )
        axes.set_title(title, fontsize=12)
        axes.set_ylabel(rows)
        axes.set_xlabel(columns)
        # All panels share their order: names stand at the left and below only.
        left, below = axes in grid[:, 0], axes in grid[1] or panel is panels[-2]
        blank = [""] * count
        axes.set_yticks(range(count), maps.labels if left else blank, fontsize=7)
        names = maps.labels if below else blank
        axes.set_xticks(range(count), names, fontsize=7, rotation=90)
        axes.tick_params(length=0)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    image = grid[0, 0].images[0]
    figure.colorbar(image, ax=grid, label="cosine", shrink=0.5, aspect=30, pad=0.01)
    return to_svg(figure, "Heat maps of image-text cosines, before and after mapping")


def _known(cells: Cells, methods: Sequence[str], metric: str) -> bool:
    """Whether any of the methods has a value of the metric."""
    found = [cells[name].get(metric) for name in methods]
    return any(cell is not None and cell.value is not None for cell in found)
