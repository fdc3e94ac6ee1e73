# SPDX-License-Identifier: Apache-2.0
"""Rows of results, what their metrics mean, and their averages over seeds.

Values are fractions or cosines, never percent: reports turn them into percent. A metric
that does not apply (no map between spaces of different widths) has value None.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from jaxalign.errors import ArgumentError

# Names of methods that reports know how to read; all others are free.
NO_MAP = "none"
MEAN_ONLY = "mean only"
STAY_ON_SOURCE = "stay on source"
NATIVE_TARGET = "native target"


@dataclasses.dataclass(frozen=True)
class Metric:
    """What a metric is called on paper.

    Attributes:
      label: a few words.
      unit: "cosine" or "share" (shown in percent).
      meaning: one sentence.
    """

    label: str
    unit: Literal["cosine", "share"]
    meaning: str


def _cosine_metrics() -> dict[str, Metric]:
    """Three cosines of each kind of pair."""
    kinds = {
        "image": ("image", "image pairs: one picture in both models"),
        "caption": ("caption", "caption pairs: one caption in both models"),
        "class_text": ("class text", "class texts: one class's prompts in both models"),
    }
    metrics = {}
    for kind, (label, pairs) in kinds.items():
        metrics[f"{kind}_cosine"] = Metric(
            f"{label} cosine", "cosine", f"Mean cosine of {pairs}, mapped and target."
        )
        metrics[f"{kind}_centred_cosine"] = Metric(
            f"{label} centred cosine",
            "cosine",
            f"The same for {pairs}, after each side's own mean is taken off.",
        )
        metrics[f"{kind}_mismatched_cosine"] = Metric(
            f"{label} mismatched cosine",
            "cosine",
            f"Mean cosine of all pairs that do not belong together; {pairs} otherwise.",
        )
    return metrics


def _recall_metrics() -> dict[str, Metric]:
    """Exact retrieval at 1 and 10 in every direction."""
    directions = {
        "image_to_image": ("source image -> target image", "the same picture"),
        "text_to_text": ("source text -> target text", "the same caption"),
        "source_image_to_target_text": (
            "source image -> target text",
            "the picture's own caption",
        ),
        "target_image_to_source_text": (
            "target image -> source text",
            "the picture's own caption, in the mapped store",
        ),
        "image_to_text": ("image -> text, one model", "the picture's own caption"),
    }
    metrics = {}
    for name, (label, found) in directions.items():
        for k in (1, 10):
            within = "is the nearest row" if k == 1 else f"is among the {k} nearest"
            metrics[f"{name}_at_{k}"] = Metric(
                f"{label} @{k}", "share", f"Queries for which {found} {within}."
            )
    return metrics


METRICS: Mapping[str, Metric] = {
    **_cosine_metrics(),
    "image_class_top1": Metric(
        "image -> image class top-1",
        "share",
        "Mapped pictures whose nearest target picture is of their class.",
    ),
    "image_class_top1_others": Metric(
        "image -> image class top-1, others",
        "share",
        "The same with the picture itself taken out of the index.",
    ),
    "text_class_top1": Metric(
        "class text -> class text top-1",
        "share",
        "Mapped class texts whose nearest target class text is of their class.",
    ),
    "zeroshot": Metric(
        "zero-shot, one model", "share", "Pictures nearest to their own class text."
    ),
    "zeroshot_mapped_image_to_target_text": Metric(
        "zero-shot, aligned image -> target text",
        "share",
        "Mapped pictures nearest to their own target class text.",
    ),
    "zeroshot_mapped_image_to_mapped_text": Metric(
        "zero-shot, aligned image -> aligned text",
        "share",
        "Mapped pictures nearest to their own mapped class text.",
    ),
    "zeroshot_target_image_to_mapped_text": Metric(
        "zero-shot, target image -> aligned text",
        "share",
        "Target pictures nearest to their own mapped class text.",
    ),
    **_recall_metrics(),
    "share_of_native_at_1": Metric(
        "source image -> target text @1, of native",
        "share",
        "Hits of the mapped pictures over hits of the target model's own.",
    ),
}
"""Every metric of the protocol, in the order of a report."""


@dataclasses.dataclass(frozen=True)
class ResultRow:
    """One number and all that is needed to read it.

    Attributes:
      table: what was evaluated, such as "held-out classes".
      method: how rows crossed, such as "least squares" or "none".
      metric: a key of `METRICS`.
      value: a cosine or a share; None where the metric does not apply.
      interval: 95 % interval of the value, or None.
      n: number of queries or pairs behind the value.
      seed: seed of the run.
      config: settings of the run, JSON values only.
    """

    table: str
    method: str
    metric: str
    value: float | None
    interval: tuple[float, float] | None
    n: int
    seed: int
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        numbers = [self.value, *(self.interval or ())]
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise ArgumentError(
                f"ResultRow({self.method!r}, {self.metric!r})",
                "finite numbers or None",
                f"{self.value} and {self.interval}",
                "give None where a metric does not apply",
            )

    def to_json(self) -> dict[str, Any]:
        """Give the row as JSON values; the interval becomes a list."""
        row = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        row["interval"] = None if self.interval is None else list(self.interval)
        return {**row, "config": dict(self.config)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "ResultRow":
        """Make a row from what `to_json` gave.

        Raises:
          ValueError: if a field is missing or unknown.
        """
        names = {f.name for f in dataclasses.fields(cls)}
        if set(row) != names:
            raise ArgumentError(
                "ResultRow.from_json(row)",
                f"the fields {sorted(names)}",
                sorted(row),
                "write the rows again",
            )
        interval = row["interval"]
        pair = None if interval is None else (float(interval[0]), float(interval[1]))
        return cls(**{**row, "interval": pair})


@dataclasses.dataclass(frozen=True)
class SeedAverage:
    """A metric over the seeds of a run.

    Attributes:
      table: as in `ResultRow`.
      method: as in `ResultRow`.
      metric: as in `ResultRow`.
      mean: mean over seeds, None where the metric does not apply.
      std: sample standard deviation over seeds (n - 1), None with one seed.
      seeds: number of seeds.
    """

    table: str
    method: str
    metric: str
    mean: float | None
    std: float | None
    seeds: int


def average_over_seeds(rows: Iterable[ResultRow]) -> list[SeedAverage]:
    """Average the rows that differ in nothing but their seed.

    Args:
      rows: rows of any tables, methods and seeds.

    Returns:
      One average per (table, method, metric), in order of first appearance.

    Raises:
      ValueError: if two rows share table, method, metric and seed.
    """
    averages = []
    for key, of_seed in values_by_seed("average_over_seeds", rows).items():
        known = [value for value in of_seed.values() if value is not None]
        mean = statistics.fmean(known) if known else None
        std = statistics.stdev(known) if len(known) > 1 else None
        averages.append(SeedAverage(*key, mean=mean, std=std, seeds=len(of_seed)))
    return averages


def values_by_seed(
    call: str, rows: Iterable[ResultRow]
) -> dict[tuple[str, str, str], dict[int, float | None]]:
    """Sort values by (table, method, metric), then by seed.

    Raises:
      ValueError: if two rows share all four.
    """
    values: dict[tuple[str, str, str], dict[int, float | None]] = {}
    for row in rows:
        of_seed = values.setdefault((row.table, row.method, row.metric), {})
        if row.seed in of_seed:
            raise ArgumentError(
                f"{call}(rows=...)",
                "one row per seed",
                f"two of {row.table!r}, {row.method!r}, {row.metric!r}, seed "
                f"{row.seed}",
                "give methods different names",
            )
        of_seed[row.seed] = row.value
    return values
