# SPDX-License-Identifier: Apache-2.0
"""Rows gathered for reading: one cell per number, and the columns of short tables."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from jaxalign.evaluate.intervals import Interval
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
      interval: 95 % bootstrap interval with one seed, one standard deviation to either
        side with several; None where there is neither.
      n: queries or pairs behind it (of the first seed).
      seeds: number of seeds.
    """

    value: float | None
    interval: Interval | None
    n: int
    seeds: int

    @property
    def spread_name(self) -> str:
        """What `interval` is, in words."""
        if self.seeds == 1:
            return "95 % interval"
        return f"one standard deviation over {self.seeds} seeds,"


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
    first: dict[tuple[str, str, str], ResultRow] = {}
    for row in rows:
        first.setdefault((row.table, row.method, row.metric), row)
    tables: dict[str, Cells] = {}
    for average in average_over_seeds(rows):
        row = first[average.table, average.method, average.metric]
        interval = row.interval if average.seeds == 1 else None
        if average.mean is not None and average.std is not None:
            interval = (average.mean - average.std, average.mean + average.std)
        cell = Cell(average.mean, interval, row.n, average.seeds)
        methods = tables.setdefault(average.table, {})
        methods.setdefault(average.method, {})[average.metric] = cell
    return tables


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


KEY_COLUMNS = (
    KeyColumn(("image", "cos"), "image_cosine"),
    KeyColumn(("text", "cos"), "caption_cosine"),
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
    KeyColumn(
        ("zero-shot", "top-1"), "zeroshot_mapped_image_to_target_text", "zeroshot"
    ),
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
    parts = []
    for metric, noun in (("image_cosine", "examples"), ("text_class_top1", "classes")):
        found = [c[metric] for c in cells.values() if metric in c]
        if found:
            parts.append(f"{found[0].n} {noun}")
            if metric == "image_cosine":
                chance = f"chance @1 is {100 / found[0].n:.2f} %"
                seeds = found[0].seeds
    if not parts:
        return ""
    if seeds > 1:
        parts.append(f"mean of {seeds} seeds")
    return ", ".join([*parts, chance])


def pick_methods(cells: Cells, wanted: Sequence[str]) -> list[str]:
    """Keep those of the wanted methods that a table has, without repeats."""
    return [name for name in dict.fromkeys(wanted) if name in cells]
