# SPDX-License-Identifier: Apache-2.0
"""Paired rows of one modality, with what is known of each pair."""

import dataclasses
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, Shaped

from jaxalign.anchors.inspection import as_float
from jaxalign.array_types import ArrayLike


@dataclasses.dataclass(frozen=True, eq=False)
class PairedRows:
    """Paired rows of one modality.

    Attributes:
      source: ``(n, d_source)``, NumPy (memory-mapped too) or JAX.
      target: ``(n, d_target)``.
      good: ``(n,)``, false for pairs that are left out, of which a row is not finite or
        is zero; None if there is none.
      source_norms: ``(n,)``.
      target_norms: ``(n,)``.
      weights: ``(n,)``, not negative; None: all 1.
      groups: ``(n,)`` labels of what is held out together, or None.
      ids: ``(n,)`` labels of what a row shows, the same in all modalities, or None.
    """

    source: ArrayLike
    target: ArrayLike
    good: Bool[np.ndarray, " n"] | None
    source_norms: Float[np.ndarray, " n"]
    target_norms: Float[np.ndarray, " n"]
    weights: Float[np.ndarray, " n"] | None = None
    groups: Shaped[np.ndarray, " n"] | None = None
    ids: Shaped[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        """Number of pairs, those that are left out included."""
        return self.source.shape[0]

    @property
    def skipped(self) -> int:
        """Pairs that are left out."""
        return 0 if self.good is None else int(np.sum(~self.good))

    @property
    def count(self) -> int:
        """Pairs that are left, and have a weight."""
        return len(self) if self.mask is None else int(np.count_nonzero(self.mask))

    @property
    def labels(self) -> Shaped[np.ndarray, " n"] | None:
        """What is held out together: the groups, or else what rows show."""
        return self.ids if self.groups is None else self.groups

    def known(self, labels: Literal["groups", "ids"]) -> Shaped[np.ndarray, " n"]:
        """Groups or ids that must be there."""
        values = self.groups if labels == "groups" else self.ids
        assert values is not None
        return values

    @property
    def mask(self) -> Float[np.ndarray, " n"] | None:
        """Weights, 0 for pairs that are left out; None where all are 1."""
        if self.good is None:
            return self.weights
        ones = np.ones(len(self)) if self.weights is None else self.weights
        return np.where(self.good, as_float(ones), 0.0)

    def norm_ranges(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Smallest and largest norm of each side, of the pairs that have a weight."""
        mask = self.mask
        counted = slice(None) if mask is None else mask != 0
        source, target = self.source_norms[counted], self.target_norms[counted]
        return (
            (float(source.min()), float(source.max())),
            (float(target.min()), float(target.max())),
        )

    def on_host(self) -> "PairedRows":
        """The same on the host, without pairs left out or of weight 0."""
        mask = self.mask
        kept = slice(None) if mask is None or mask.all() else np.flatnonzero(mask)
        if isinstance(kept, slice) and not isinstance(self.source, jax.Array):
            # Also a memory map stays one.
            return dataclasses.replace(self, good=None)
        return dataclasses.replace(self.take(kept), good=None)

    def take(self, numbers: Any) -> "PairedRows":
        """Some of the pairs, by number; brings rows to the host."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        taken = {
            name: np.asarray(value)[numbers]
            for name, value in values.items()
            if value is not None
        }
        return dataclasses.replace(self, **taken)
