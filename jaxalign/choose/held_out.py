# SPDX-License-Identifier: Apache-2.0
"""Searches on held-out anchors, fold by fold, whole groups at a time.

What `choose_map` decides by. Rows of a fold are asked for among the rows of the same
fold: the anchors that a map was fitted on, and offsets measured with, are neither
queries nor rivals.

So rivals are few, often too few to tell one use from another: all find everything.
`standing.pooled_top1` holds the right row against the rivals of all queries instead.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxalign.anchors.anchors import Anchors
from jaxalign.anchors.folds import fold_rows
from jaxalign.array_types import Modality
from jaxalign.choose.standing import Standing, pooled_top1, stand_out
from jaxalign.families.scorer import Side
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.search.hubness import hubness_offsets
from jaxalign.search.use import Use, prepare_rows, without_norms


@dataclasses.dataclass(frozen=True)
class Job:
    """One kind of search that the map is for.

    Attributes:
      query: modality of the queries.
      index: modality of the rows that are searched.
      queries_are: which model's rows ask; the other's are searched.
    """

    query: Modality
    index: Modality
    queries_are: Side = "source"

    @property
    def rows_are(self) -> Side:
        """Which model's rows are searched."""
        return "target" if self.queries_are == "source" else "source"

    def describe(self) -> str:
        """Say the job in a few words.

        >>> Job("image", "text").describe()
        'source image -> target text'
        """
        return f"{self.queries_are} {self.query} -> {self.rows_are} {self.index}"


class HeldOut(NamedTuple):
    """One candidate: by job, chance and hit of each held-out row, and its group."""

    chances: list[Float[np.ndarray, " n"]]
    hits: list[Float[np.ndarray, " n"]]
    groups: list[Int[np.ndarray, " n"]]

    @property
    def score(self) -> float:
        """Mean over jobs of the pooled top-1."""
        return float(np.mean([values.mean() for values in self.chances]))

    def standard_error(self, other: "HeldOut | None" = None) -> float:
        r"""Standard error of the score, or of the difference to another candidate's.

        Rows of one group are not independent: with :math:`\psi_g` what group g adds to
        the deviation from the mean, it is
        :math:`\sqrt{\frac{G}{G - 1} \sum_g \psi_g^2}`.
        """
        count = 1 + max(int(groups.max()) for groups in self.groups)
        influence, present = np.zeros(count), np.zeros(count, bool)
        parts = zip(self.chances, self.groups, strict=True)
        for job, (own, groups) in enumerate(parts):
            values = own if other is None else own - other.chances[job]
            deviation = (values - values.mean()) / (len(values) * len(self.chances))
            influence += np.bincount(groups, weights=deviation, minlength=count)
            present[groups] = True
        number = int(present.sum())
        if number < 2:
            return 0.0
        return float(np.sqrt(number / (number - 1) * np.sum(influence**2)))


class Fold(NamedTuple):
    """One fold: anchors to fit on, and held-out ones; ids and groups are numbers."""

    fit: Anchors
    held: Anchors

    def ids(self, name: Modality) -> Int[np.ndarray, " n"]:
        """What the held-out rows of a modality show."""
        return self.held.rows[name].known("ids")

    def asked(self, job: Job) -> np.ndarray:
        """True for the held-out rows that the index has an answer to, and a rival."""
        found = self.ids(job.index)
        return np.isin(self.ids(job.query), found) & (len(np.unique(found)) > 1)


def cut_folds(anchors: Anchors, *, count: int, most: int) -> list[Fold]:
    """Cut anchors into folds of whole groups.

    Args:
      anchors: with ids and groups, numbered alike in all modalities.
      count: folds.
      most: rows held out of each modality at most; whole things are left out beyond.

    Returns:
      The folds, each with all other rows to fit on.
    """
    fold_of_row = fold_rows(anchors.rows, count)
    number = 1 + max(int(folds.max()) for folds in fold_of_row.values())
    return [
        Fold(
            fit=anchors.take(
                {name: np.flatnonzero(of != fold) for name, of in fold_of_row.items()}
            ),
            held=anchors.take(
                _thin(
                    anchors,
                    {n: np.flatnonzero(of == fold) for n, of in fold_of_row.items()},
                    most,
                )
            ),
        )
        for fold in range(number)
    ]


class FoldSearch:
    """Searches the held-out rows of one fold, by any map fitted on its other rows.

    Target rows that do not depend on the matrix are prepared once for all maps: their
    means are the same whatever was fitted on the fold.
    """

    def __init__(self, fold: Fold, jobs: Sequence[Job]):
        self._fold, self._jobs = fold, jobs
        self._targets: dict[tuple, np.ndarray] = {}

    def score(
        self, amap: AlignmentMap, uses: Sequence[Use]
    ) -> list[list[Standing | None]]:
        """Search by one map, for each use and job.

        Args:
          amap: fitted on the fold's other rows.
          uses: alike in all but their offsets.

        Returns:
          By use and job, the standing of the rows that are asked; None without any.
        """
        # Held-out anchors may be shorter or longer than those that a fold fits on.
        amap, use = without_norms(amap), uses[0]
        of_map: dict[tuple, np.ndarray] = {}

        def prepared(anchors: Anchors, name: Modality, side: Side) -> np.ndarray:
            shared = side == "target" and use.divide == "whole"
            kept = self._targets if shared else of_map
            key = (anchors is self._fold.held, name, side, use.centre)
            if key not in kept:
                rows = getattr(anchors.rows[name], side)
                kept[key] = np.asarray(prepare_rows(amap, use, rows, name, side=side))
            return kept[key]

        found: list[list[Standing | None]] = [[] for _ in uses]
        for job in self._jobs:
            asked = self._fold.asked(job)
            if not asked.any():
                for standings in found:
                    standings.append(None)
                continue
            index = prepared(self._fold.held, job.index, job.rows_are)
            queries = prepared(self._fold.held, job.query, job.queries_are)[asked]
            for standings, way in zip(found, uses, strict=True):
                offsets = None
                if way.offsets:
                    known = prepared(self._fold.fit, job.query, job.queries_are)
                    k = min(way.offsets, len(known))
                    offsets = np.asarray(hubness_offsets(known, index, k=k))
                standings.append(
                    stand_out(
                        queries,
                        self._fold.ids(job.query)[asked],
                        index,
                        self._fold.ids(job.index),
                        offsets=offsets,
                    )
                )
        return found


def join_folds(
    parts: Sequence[Sequence[Standing | None]],
    groups: Sequence[np.ndarray],
    index_size: int,
) -> HeldOut:
    """Pool what one candidate found in all folds.

    Args:
      parts: by fold and job.
      groups: by job, of the rows that were asked, fold after fold.
      index_size: see `pooled_top1`.
    """
    chances, hits = [], []
    for of_job in zip(*parts, strict=True):
        folds = [one for one in of_job if one is not None]
        chances.append(np.concatenate(pooled_top1(folds, index_size)))
        hits.append(np.concatenate([one.hits for one in folds]))
    return HeldOut(chances, hits, list(groups))


def _thin(
    anchors: Anchors, held: Mapping[Modality, np.ndarray], most: int
) -> dict[Modality, np.ndarray]:
    """Leave out whole things until no modality has more than `most` rows."""
    ids = {name: anchors.rows[name].known("ids")[rows] for name, rows in held.items()}
    names = np.unique(np.concatenate(list(ids.values())))
    rank = np.random.default_rng(0).permutation(len(names))
    ranks = {name: rank[np.searchsorted(names, own)] for name, own in ids.items()}
    # The first rank at which some modality would be too long.
    upto = len(names)
    for of_rows in ranks.values():
        if len(of_rows) > most:
            upto = min(upto, int(np.sort(of_rows)[most]))
    return {name: rows[ranks[name] < upto] for name, rows in held.items()}
