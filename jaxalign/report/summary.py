# SPDX-License-Identifier: Apache-2.0
"""Rows gathered for reading: one cell per number, and the columns of short tables."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from jaxalign.evaluate.rows import (
    METRICS,
    NATIVE_TARGET,
    STAY_ON_SOURCE,
    ResultRow,
    average_over_seeds,
)

NATIVE_METHODS = (STAY_ON_SOURCE, NATIVE_TARGET)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
      value: mean over seeds, None where the metric does not apply.
      interval: 95 % bootstrap interval over examples, its ends averaged over seeds.
      std: standard deviation over seeds, None with one seed.
      sizes: least and most queries or pairs behind it, over seeds.
      seeds: number of seeds.
    """

    value: float | None
    interval: tuple[float, float] | None
    std: float | None
    sizes: tuple[int, int]
    seeds: int


Cells: TypeAlias = dict[str, dict[str, Cell]]
"""Method -> metric -> cell, methods in order of first appearance."""


def collect(rows: Iterable[ResultRow]) -> dict[str, Cells]:
    """Average rows over seeds and sort them into tables.

    Args:
      rows: rows of any tables, methods and seeds.

    Returns:
      Table name -> method -> metric -> cell, in order of first appearance.
    """
    rows = list(rows)
    of_cell: dict[tuple[str, str, str], list[ResultRow]] = {}
    for row in rows:
        of_cell.setdefault((row.table, row.method, row.metric), []).append(row)
    tables: dict[str, Cells] = {}
    for average in average_over_seeds(rows):
        of_seeds = of_cell[average.table, average.method, average.metric]
        cell = Cell(
            value=average.mean,
            interval=_mean_interval([row.interval for row in of_seeds]),
            std=average.std,
            sizes=(min(row.n for row in of_seeds), max(row.n for row in of_seeds)),
            seeds=average.seeds,
        )
        methods = tables.setdefault(average.table, {})
        methods.setdefault(average.method, {})[average.metric] = cell
    return tables


def _mean_interval(
    intervals: Sequence[tuple[float, float] | None],
) -> tuple[float, float] | None:
    """Average the ends of intervals, None if one is missing."""
    known = [interval for interval in intervals if interval is not None]
    if not known or len(known) < len(intervals):
        return None
    low, high = zip(*known, strict=True)
    return sum(low) / len(low), sum(high) / len(high)


@dataclasses.dataclass(frozen=True)
class KeyColumn:
    """A column of the short table.

    Attributes:
      header: up to two lines of text.
      metric: the metric of a map.
      native_metric: the metric that "stay on source" and "native target" show there.
      share_metric: a second metric, shown in brackets.
    """

    header: tuple[str, str]
    metric: str
    native_metric: str | None = None
    share_metric: str | None = None

    def cell(self, method: str, cells: dict[str, Cell]) -> Cell | None:
        """Give the cell of a method, None if it has none."""
        native = method in NATIVE_METHODS
        return cells.get(self.native_metric or "" if native else self.metric)

    def share(self, cells: dict[str, Cell]) -> float | None:
        """Give the value of the second metric, None if it has none."""
        cell = cells.get(self.share_metric or "")
        return None if cell is None else cell.value


KEY_COLUMNS = (
    KeyColumn(("image", "cosine"), "image_cosine"),
    KeyColumn(("text", "cosine"), "caption_cosine"),
    KeyColumn(("text ->", "text @1"), "text_to_text_at_1"),
    KeyColumn(
        ("source image ->", "target text @1"),
        "source_image_to_target_text_at_1",
        "image_to_text_at_1",
        "share_of_native_at_1",
    ),
    KeyColumn(
        ("target image ->", "source text @1"),
        "target_image_to_source_text_at_1",
        "image_to_text_at_1",
    ),
    KeyColumn(("zero-", "shot"), "zeroshot_mapped_image_to_target_text", "zeroshot"),
)


def format_value(metric: str, value: float | None) -> str:
    """Write a cosine with two decimals and a share in percent with one."""
    if value is None:
        return "n/a"
    if METRICS[metric].unit == "cosine":
        # "-0.00" reads as if it meant something.
        return f"{round(value, 2) + 0.0:.2f}"
    return f"{100 * value:.1f}"


def describe_size(cells: Cells) -> str:
    """Say how many examples and classes a table rests on, and what chance is."""
    examples = _first(cells, "image_cosine")
    classes = _first(cells, "text_class_top1")
    if examples is None or classes is None:
        return ""
    parts = [f"{_range(examples.sizes)} examples", f"{_range(classes.sizes)} classes"]
    if examples.seeds > 1:
        parts.append(f"mean of {examples.seeds} seeds")
    return ", ".join([*parts, f"chance @1 is {100 / examples.sizes[0]:.2f} %"])


def _first(cells: Cells, metric: str) -> Cell | None:
    """The first method's cell of a metric."""
    return next((found[metric] for found in cells.values() if metric in found), None)


def _range(sizes: tuple[int, int]) -> str:
    """Write one number, or two if they differ."""
    return str(sizes[0]) if sizes[0] == sizes[1] else f"{sizes[0]} to {sizes[1]}"


def pick_methods(cells: Cells, wanted: Sequence[str]) -> list[str]:
    """Keep those of the wanted methods that a table has, without repeats."""
    return [name for name in dict.fromkeys(wanted) if name in cells]
