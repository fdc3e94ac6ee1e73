# SPDX-License-Identifier: Apache-2.0
"""Fits of one family on every fold but one, from one pass over the anchors.

Folds are groups of the moments, cut finer than they are held out: any family on any
modalities is then solved from sums (`maps_of_subsets`), and a ridge chosen by holding
out the finer parts of what a fold leaves.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Int

from jaxalign.array_types import Modality
from jaxalign.evaluate.held_out import Fold, Pairs, cut_folds
from jaxalign.evaluate.recipes import Recipe
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.anchor_moments import moments_of
from jaxalign.maps.checks import ALL
from jaxalign.maps.fit import Kind
from jaxalign.anchors.folds import fold_rows
from jaxalign.maps.subsets import maps_of_subsets
from jaxalign.moments import Moments

# Parts that a ridge is chosen on, at least.
_RIDGE_PARTS = 4
_BATCH = 4096


class FoldFits:
    """Anchors cut into folds, and the fits that leave out one fold each."""

    def __init__(
        self,
        pairs: Pairs,
        ids: Mapping[Modality, Int[np.ndarray, " n"]],
        groups: Mapping[Modality, Int[np.ndarray, " n"]],
        *,
        count: int,
        most: int,
    ):
        """Cut the folds, see `cut_folds`."""
        self.folds: list[Fold] = cut_folds(pairs, ids, groups, count=count, most=most)
        self._pairs, self._groups, self._count = pairs, groups, count

    @property
    def smallest(self) -> int:
        """Anchors of a modality that some fit has, at least."""
        return min(
            len(source) for fold in self.folds for source, _ in fold.fit.values()
        )

    def fit(
        self, kind: Kind, name: Modality
    ) -> Iterator[tuple[Recipe, list[AlignmentMap]]]:
        """Fit a family; the rotation also by its identified part, with few anchors.

        Args:
          kind: of the map.
          name: modality to fit on, or "all".

        Yields:
          A recipe, and the map that leaves out each fold.
        """
        recipe = Recipe(
            kind=kind, fit_on=name, scale="energy" if kind == "orthogonal" else "none"
        )
        yield recipe, self._maps(recipe)
        # With more anchors the part is all, but for rounding: a fit that tells nothing.
        if kind == "orthogonal" and self._most(name) < self._width():
            part = dataclasses.replace(recipe, identified_only=True)
            maps = self._maps(part)
            if all(amap.kind == "partial_isometry" for amap in maps):
                yield part, maps

    def _maps(self, recipe: Recipe) -> list[AlignmentMap]:
        """Fit one recipe without each fold in turn."""
        if recipe.kind == "mlp":
            return [recipe.fit(fold.fit, groups=fold.fit_groups) for fold in self.folds]
        moments = self._moments
        parts = next(iter(moments.values())).count.shape[0]
        fold_of_part = np.arange(parts) % self._count
        return maps_of_subsets(
            moments,
            fold_of_part[None, :] != np.arange(len(self.folds))[:, None],
            fit_on=recipe.fit_on,
            scale=recipe.scale,
            kind=recipe.kind,
            identified_only=recipe.identified_only,
        )

    @functools.cached_property
    def _moments(self) -> dict[Modality, Moments]:
        """Moments of the parts of all folds: part p is of fold p modulo their number.

        `fold_rows` deals labels out in turn, so that a multiple of parts refines folds.
        """
        sizes = {name: len(source) for name, (source, _) in self._pairs.items()}
        finer = -(-_RIDGE_PARTS // (self._count - 1))
        parts = fold_rows(sizes, self._groups, self._count * finer)
        number = 1 + max(int(of.max()) for of in parts.values())
        return {
            name: moments_of(
                source,
                target,
                grams=True,
                batch_size=_BATCH,
                group=parts[name],
                groups=number,
            )
            for name, (source, target) in self._pairs.items()
        }

    def _most(self, name: Modality) -> int:
        """Directions that the anchors of some fold can determine, at most."""
        return min(
            sum(
                len(source) - 1
                for own, (source, _) in fold.fit.items()
                if name in (own, ALL)
            )
            for fold in self.folds
        )

    def _width(self) -> int:
        """The smaller width."""
        return min(side.shape[1] for side in next(iter(self._pairs.values())))
