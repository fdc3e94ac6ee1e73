# SPDX-License-Identifier: Apache-2.0
r"""Bootstrap intervals from per-item values, resampling whole groups.

On the host. Items of one group (renderings of one
emoji, images of one class) are not independent, so groups are drawn with replacement,
all their items together. Queries are resampled; the index they search stays as it is.

References:
  Efron, "Bootstrap methods: another look at the jackknife", 1979; Field and Welsh,
  "Bootstrapping clustered data", 2007 (cluster bootstrap).
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError, check_number


@dataclasses.dataclass(frozen=True)
class ClusterBootstrap:
    """Resampled groups, drawn once and used for many metrics of the same items.

    Attributes:
      group_of: ``(n,)`` the group of each item, numbered from 0.
      weights: ``(replicates, groups)`` how often a replicate drew each group.
    """

    group_of: Int[np.ndarray, " n"]
    weights: Float[np.ndarray, "replicates groups"]

    @classmethod
    def draw(
        cls, groups: ArrayLike, *, replicates: int = 1000, seed: int = 0
    ) -> "ClusterBootstrap":
        """Draw as many groups as there are, with replacement, for every replicate.

        Args:
          groups: ``(n,)`` group of each item: any labels, compared for equality.
          replicates: number of resampled data sets.
          seed: seed of the draws; the same seed gives the same bits.

        Returns:
          The drawn groups.

        Raises:
          ValueError: if there is no item or no replicate.
        """
        labels = np.asarray(groups)
        if labels.ndim != 1 or labels.size == 0 or replicates < 1:
            raise ArgumentError(
                "ClusterBootstrap.draw(groups=..., replicates=...)",
                "groups of shape (n,), n at least 1, and at least 1 replicate",
                f"{labels.shape} and {replicates}",
                "give one group per item",
            )
        group_of = np.unique(labels, return_inverse=True)[1].reshape(-1)
        count = int(group_of.max()) + 1
        drawn = np.random.default_rng(seed).integers(count, size=(replicates, count))
        # One flat count over (replicate, group) instead of a Python loop.
        drawn += np.arange(replicates)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=replicates * count)
        weights = weights.reshape(replicates, count).astype(np.float64)
        return cls(group_of=group_of, weights=weights)

    def mean_interval(
        self, values: ArrayLike, *, level: float = 0.95
    ) -> tuple[float, float] | None:
        """Percentile interval of the mean of `values`.

        Args:
          values: ``(n,)`` one number per item (hits or cosines).
          level: share of replicates inside the interval.

        Returns:
          ``(low, high)``, or None with fewer than two groups.
        """
        return self.ratio_interval(values, np.ones(len(self.group_of)), level=level)

    def ratio_interval(
        self, numerator: ArrayLike, denominator: ArrayLike, *, level: float = 0.95
    ) -> tuple[float, float] | None:
        """Percentile interval of a ratio of two sums over the same items.

        Args:
          numerator: ``(n,)`` one number per item.
          denominator: ``(n,)`` one number per item, not negative.
          level: share of replicates inside the interval.

        Returns:
          ``(low, high)``, or None with fewer than two groups or if the denominator
          vanishes in a replicate.

        Raises:
          ValueError: if the numbers do not match the items, or `level` is no share.
        """
        check_number("bootstrap_interval", "level", level, above=0.0, below=1.0)
        if self.weights.shape[1] < 2:
            return None
        top = self.weights @ self._group_sums(numerator)
        bottom = self.weights @ self._group_sums(denominator)
        if np.any(bottom <= 0):
            return None
        low, high = np.quantile(top / bottom, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def _group_sums(self, values: ArrayLike) -> Float[np.ndarray, " groups"]:
        """Sum of the values of each group."""
        values = np.asarray(values, np.float64)
        if values.shape != self.group_of.shape:
            raise ArgumentError(
                "bootstrap_interval(values=...)",
                f"shape {self.group_of.shape}",
                values.shape,
                "give one value per resampled item",
            )
        count = self.weights.shape[1]
        return np.bincount(self.group_of, weights=values, minlength=count)


def bootstrap_interval(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of a mean, over groups of items.

    Args:
      values: ``(n,)`` one number per item.
      groups: ``(n,)`` group of each item; default every item is its own.
      replicates: number of resampled data sets.
      seed: seed of the draws.
      level: share of replicates inside the interval.

    Returns:
      ``(low, high)``, or None with fewer than two groups.

    >>> bootstrap_interval(np.full(10, 0.25))
    (0.25, 0.25)
    """
    groups = np.arange(len(values)) if groups is None else groups
    bootstrap = ClusterBootstrap.draw(groups, replicates=replicates, seed=seed)
    return bootstrap.mean_interval(values, level=level)
