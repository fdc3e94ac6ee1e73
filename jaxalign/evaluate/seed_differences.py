# SPDX-License-Identifier: Apache-2.0
r"""Differences between methods, paired by seed, with an interval over the seeds.

Methods of one seed share their
anchors and their questions, so that much of what varies between seeds cancels in a
difference. Reference: Student, "The probable error of a mean", 1908.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable

from scipy.special import stdtrit

from jaxalign.errors import ArgumentError, check_number
from jaxalign.evaluate.rows import ResultRow, values_by_seed


@dataclasses.dataclass(frozen=True)
class SeedDifference:
    """How far a method is from the baseline on one metric, over seeds.

    Attributes:
      table: as in `ResultRow`.
      method: as in `ResultRow`.
      metric: as in `ResultRow`.
      mean: of the differences, method less baseline.
      interval: Student's t interval of that mean, None with fewer than two seeds.
      seeds: number of seeds that both have.
    """

    table: str
    method: str
    metric: str
    mean: float
    interval: tuple[float, float] | None
    seeds: int

    @property
    def sign(self) -> int:
        """1 or -1 if the interval lies above or below 0, else 0."""
        if self.interval is None:
            return 0
        low, high = self.interval
        return int(low > 0) - int(high < 0)


def differences_over_seeds(
    rows: Iterable[ResultRow], baseline: str, *, level: float = 0.95
) -> list[SeedDifference]:
    r"""Compare every method with one of them, seed by seed.

    With differences :math:`d_1 \dots d_n` of mean :math:`\bar d` and sample standard
    deviation :math:`s`, the interval is :math:`\bar d \pm t_{n-1} s / \sqrt n`.

    Args:
      rows: of any tables, methods and seeds.
      baseline: the method that is subtracted.
      level: of the interval, between 0 and 1.

    Returns:
      One difference per (table, method, metric), in order of first appearance, the
      baseline left out; pairs without a value are left out too.

    Raises:
      ValueError: if no row is of the baseline, two rows share table, method, metric and
        seed, or `level` is no share.

    Notes:
      Seeds that draw from the same data share examples, so they are not independent:
      the interval is of this data set and these models, and too narrow for others.

    References:
      Student, "The probable error of a mean", 1908.
    """
    check_number("differences_over_seeds", "level", level, above=0.0, below=1.0)
    found = values_by_seed("differences_over_seeds", rows)
    if baseline not in {method for _, method, _ in found}:
        raise ArgumentError(
            f"differences_over_seeds(baseline={baseline!r})",
            f"a method of the rows, of {sorted({method for _, method, _ in found})}",
            remedy="name one",
        )
    differences = []
    for (table, method, metric), values in found.items():
        if method == baseline:
            continue
        of_baseline = found.get((table, baseline, metric), {})
        pairs = [(value, of_baseline.get(seed)) for seed, value in values.items()]
        gaps = [a - b for a, b in pairs if a is not None and b is not None]
        if gaps:
            interval = _t_interval(gaps, level)
            mean = statistics.fmean(gaps)
            differences.append(
                SeedDifference(table, method, metric, mean, interval, len(gaps))
            )
    return differences


def _t_interval(values: list[float], level: float) -> tuple[float, float] | None:
    """Interval of the mean."""
    n = len(values)
    if n < 2:
        return None
    quantile = float(stdtrit(n - 1, 0.5 + 0.5 * level))
    half = quantile * statistics.stdev(values) / math.sqrt(n)
    mean = statistics.fmean(values)
    return mean - half, mean + half
