# SPDX-License-Identifier: Apache-2.0
"""Searches of held-out rows among many rows, none of which the fits have seen.

A fold of few anchors is a small index, in which nearly everything finds everything. Its
rows have more rivals in the other folds, but a map that was fitted on a rival ranks it
unlike rows that are new. So the rivals of another fold are ranked by a fit that leaves
out that fold as well: a query finds its partner if it does so by every one of them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxalign.anchors.paired_rows import PairedRows
from jaxalign.array_types import Modality
from jaxalign.buckets import pad_to_size
from jaxalign.families.scorer import Side
from jaxalign.heldout.folds import MOST_SAMPLED, Folds, LeftOut
from jaxalign.heldout.scores import FoldScores
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.precise import product
from jaxalign.search.blocks import row_size
from jaxalign.search.use import (
    SearchMap,
    Use,
    prepare_rows,
    search_offsets,
    without_norms,
)
from jaxalign.unit_rows import unit_rows

NEIGHBOURS = 10
_SEED, _NEARLY = 0, 0.9


class PoolAnswers(NamedTuple):
    """What held-out rows found, one entry a query.

    Attributes:
      hits: whether a right row came before all rivals.
      hits_in_fold: whether it came before those of its own fold.
      chance: probability of a hit, were the right row any row of the index.
      overlap: share of the nearest neighbours that are the index model's own.
      error: squared error of the carried row.
      spread: squared distance of the target row from the mean of the others.
      outside: squared norm of the centred source row outside what the map carries.
      energy: squared norm of the centred source row.
      groups: of the queries.
      rows: of the index.
    """

    hits: Bool[np.ndarray, " n"]
    hits_in_fold: Bool[np.ndarray, " n"]
    chance: Float[np.ndarray, " n"]
    overlap: Float[np.ndarray, " n"]
    error: Float[np.ndarray, " n"]
    spread: Float[np.ndarray, " n"]
    outside: Float[np.ndarray, " n"]
    energy: Float[np.ndarray, " n"]
    groups: Int[np.ndarray, " n"]
    rows: Int[np.ndarray, " n"]


class Pool(NamedTuple):
    """How rows of one modality are asked.

    Attributes:
      folds: of anchors whose ids and groups are numbers.
      use: of the maps, in these searches.
      modality: of queries and rows.
      queries_are: which model's rows ask.
      queries: rows of a fold that are asked, at most.
      rows: index rows, at most.
    """

    folds: Folds
    use: Use
    modality: Modality
    queries_are: Side
    queries: int
    rows: int

    @property
    def pairs(self) -> PairedRows:
        """The anchors of the modality."""
        return self.folds.anchors.rows[self.modality]

    def left_out(self, fold: int) -> list[LeftOut]:
        """Sets of folds whose fits the queries of a fold take."""
        others = self._rivals(fold)
        return [(fold,), *(tuple(sorted((fold, other))) for other in others)]

    def ask(
        self, maps: Mapping[LeftOut, AlignmentMap], fold: int
    ) -> PoolAnswers | None:
        """Ask the rows of a fold for their partners.

        Args:
          maps: fits without each of `left_out(fold)`, at least.
          fold: whose rows are asked.

        Returns:
          The answers; None where no row has an answer and a rival.
        """
        ids, held = self.pairs.known("ids"), self._held(fold)
        asked = self._asked(fold)
        if not len(asked) or len(np.unique(ids[held])) < 2:
            return None
        alone = self._search(maps[(fold,)], (fold,), asked, held)
        hits, rows = alone.hits(), len(held)
        overlaps = []
        for other, rivals in self._rivals(fold).items():
            out = tuple(sorted((fold, other)))
            index = np.concatenate([held, rivals])
            found = self._search(maps[out], out, asked, index)
            overlaps.append(self._overlap(found, asked, index))
            # Those of the own fold were met by the fit on more anchors.
            right, scores = found.right, found.scores.copy()
            scores[:, : len(held)][~right[:, : len(held)]] = -np.inf
            hits &= found._replace(scores=scores).hits()
            rows += len(rivals)
        overlaps = overlaps or [self._overlap(alone, asked, held)]
        carried = carried_errors(maps[(fold,)], self.pairs.take(asked), self.modality)
        return PoolAnswers(
            hits,
            alone.hits(),
            alone.right.sum(axis=1) / rows,
            np.mean(overlaps, axis=0),
            carried.error,
            carried.spread,
            carried.outside,
            carried.energy,
            alone.groups,
            np.full(len(asked), rows),
        )

    def ask_in_fold(
        self, amap: AlignmentMap, left_out: LeftOut, fold: int
    ) -> FoldScores | None:
        """Scores of the rows of a fold with those of the same fold alone."""
        ids, held = self.pairs.known("ids"), self._held(fold)
        asked = self._asked(fold)
        if not len(asked) or len(np.unique(ids[held])) < 2:
            return None
        return self._search(amap, left_out, asked, held)

    def _asked(self, fold: int) -> np.ndarray:
        """Rows of a fold that are asked, whose partners are in the index."""
        ids = self.pairs.known("ids")
        asked = self.folds.thinned(fold, self.queries)[self.modality]
        return asked[np.isin(ids[asked], ids[self._held(fold)])]

    def _held(self, fold: int) -> np.ndarray:
        """Index rows of a fold."""
        return self.folds.thinned(fold, self.rows)[self.modality]

    def _rivals(self, fold: int) -> dict[int, np.ndarray]:
        """Index rows of other folds, as many as the own fold leaves room for."""
        own = len(self._held(fold))
        room, found = self.rows - own, {}
        if own >= _NEARLY * self.rows:
            return {}  # rivals enough, and every other fold takes a fit of its own
        for step in range(1, self.folds.count):
            other = (fold + step) % self.folds.count
            rivals = _draw(self._held(other), room)
            if len(rivals):
                found[other] = rivals
                room -= len(rivals)
        return found

    def _search(self, amap, left_out, asked, index) -> FoldScores:
        """Scores of some rows of one side with some of the other."""
        bare, rows_are = without_norms(amap), "target"
        if self.queries_are == "target":
            rows_are = "source"
        pairs, ids = self.pairs, self.pairs.known("ids")

        def prepared(numbers, side):
            own = np.asarray(getattr(pairs, side))[numbers]
            return prepare_rows(bare, self.use, own, self.modality, side=side)

        rows, asks = prepared(index, rows_are), prepared(asked, self.queries_are)
        sample = None
        if self.use.offsets:
            seen = self.folds.rows_of(left_out, inside=False)[self.modality]
            sample = prepared(_draw(seen, MOST_SAMPLED), self.queries_are)
        offsets = search_offsets(SearchMap(bare, self.use), rows, sample)
        scores = _scores(
            *(pad_to_size(side, row_size(side.shape[0])) for side in (asks, rows)),
            pad_to_size(offsets, row_size(len(index))),
        )
        return FoldScores(
            np.asarray(scores)[: len(asked), : len(index)],
            ids[asked][:, None] == ids[index][None, :],
            pairs.known("groups")[asked],
        )

    def _overlap(self, found: FoldScores, asked, index) -> Float[np.ndarray, " n"]:
        """Share of the nearest rows that are nearest to the partner by cosine, too."""
        side = "target" if self.queries_are == "source" else "source"
        rows = np.asarray(getattr(self.pairs, side))
        own = product(unit_rows(rows[asked]), unit_rows(rows[index]).T)
        return neighbour_overlap(found, np.asarray(own))


def neighbour_overlap(
    found: FoldScores, cosines: Float[np.ndarray, "n m"]
) -> Float[np.ndarray, " n"]:
    """Share of the nearest rows, right ones left out, that cosines hold nearest too.

    Ten rows are compared, or a tenth of a smaller index.
    """
    k = max(1, min(NEIGHBOURS, found.scores.shape[1] // 10))

    def nearest(scores):
        without = np.where(found.right, -np.inf, scores)
        return np.argpartition(-without, k - 1, axis=1)[:, :k]

    ours, theirs = nearest(found.scores), nearest(cosines)
    return (ours[:, :, None] == theirs[:, None, :]).any(axis=2).mean(axis=1)


class CarriedErrors(NamedTuple):
    """Squared errors of carried rows, and what of the source rows is not carried.

    One entry a row, as the attributes of `PoolAnswers` of these names.
    """

    error: Float[np.ndarray, " n"]
    spread: Float[np.ndarray, " n"]
    outside: Float[np.ndarray, " n"]
    energy: Float[np.ndarray, " n"]


def carried_errors(
    amap: AlignmentMap, pairs: PairedRows, modality: Modality
) -> CarriedErrors:
    """Carry the source rows of pairs, and measure how far they come from the target."""
    numbers = amap.numbers
    source, target = (np.asarray(side) for side in (pairs.source, pairs.target))
    carried = np.asarray(without_norms(amap)(source, modality))
    centred = source - np.asarray(numbers.source_means[modality])
    energy = np.sum(centred**2, axis=1)
    outside = np.zeros_like(energy)
    if amap.structure in ("isometry", "partial_isometry"):
        # |M x| is the norm of what a partial isometry keeps of x.
        kept = np.asarray(product(centred, np.asarray(numbers.matrix).T))
        outside = np.maximum(energy - np.sum(kept**2, axis=1), 0.0)
    mean = np.asarray(numbers.target_means[modality])
    error = np.sum((target - carried) ** 2, axis=1)
    spread = np.sum((target - mean) ** 2, axis=1)
    return CarriedErrors(error, spread, outside, energy)


def join_answers(answers: list[PoolAnswers | None]) -> PoolAnswers | None:
    """The answers of several folds as one; None without any."""
    whole = [one for one in answers if one is not None]
    if not whole:
        return None
    return PoolAnswers(*map(np.concatenate, zip(*whole, strict=True)))


def _draw(numbers: np.ndarray, most: int) -> np.ndarray:
    """Draw at most so many numbers, in order."""
    if len(numbers) <= most:
        return numbers
    return np.sort(np.random.default_rng(_SEED).permutation(numbers)[: max(most, 0)])


@jax.jit
def _scores(queries, rows, offsets):
    """Scores of all pairs: (n, w) @ (w, m)."""
    return product(queries, rows.T) - offsets[None, :]
