# SPDX-License-Identifier: Apache-2.0
"""Fits of a family on every fold but one, from one pass over the anchors.

Folds are groups of the moments, cut finer than they are held out: any family on any
modalities is then solved from sums (`fit_groups`), and a strength chosen by holding out
the finer parts of what a fold leaves.
"""

import functools

import numpy as np

from jaxalign.anchors.anchors import Anchors
from jaxalign.anchors.folds import fold_rows
from jaxalign.array_types import Modality
from jaxalign.choose.held_out import Fold, cut_folds
from jaxalign.families.family import Family
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.fit import fit_map
from jaxalign.maps.fit_groups import fit_groups
from jaxalign.moments import Moments

# Parts that a strength is chosen on, at least.
_PARTS = 4


class FoldFits:
    """Anchors cut into folds, and the fits that leave out one fold each."""

    def __init__(self, anchors: Anchors, *, count: int, most: int):
        """Cut the folds, see `cut_folds`."""
        self.folds: list[Fold] = cut_folds(anchors, count=count, most=most)
        self._anchors, self._count = anchors, count

    @property
    def smallest(self) -> int:
        """Anchors of a modality that some fit has, at least."""
        return min(len(rows) for fold in self.folds for rows in fold.fit.rows.values())

    def fit(self, family: Family, fit_on: Modality) -> list[AlignmentMap]:
        """Fit a family without each fold in turn."""
        if family.needs == "rows":
            return [fit_map(fold.fit, family, fit_on=fit_on) for fold in self.folds]
        moments = self._moments
        parts = next(iter(moments.values())).count.shape[0]
        fold_of_part = np.arange(parts) % self._count
        subsets = fold_of_part[None, :] != np.arange(len(self.folds))[:, None]
        return fit_groups(moments, subsets, family, fit_on=fit_on)

    @functools.cached_property
    def _moments(self) -> dict[Modality, Moments]:
        """Moments of the parts of all folds: part p is of fold p modulo their number.

        `fold_rows` deals labels out in turn, so that a multiple of parts refines folds.
        """
        finer = -(-_PARTS // (self._count - 1))
        parts = fold_rows(self._anchors.rows, self._count * finer)
        number = 1 + max(int(of.max()) for of in parts.values())
        return self._anchors.moments(grams=True, group=parts, groups=number)
