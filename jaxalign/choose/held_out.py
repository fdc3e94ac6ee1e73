# SPDX-License-Identifier: Apache-2.0
"""How recipes search on anchors held out, fold by fold, whole groups at a time.

What `select.choose_map` decides by. Rows of a fold are asked for among the rows of the
same fold: the anchors that a map was fitted on, and offsets measured with, are neither
queries nor rivals.

So rivals are few, often too few to tell one recipe from another: all find everything.
`standing.pooled_top1` holds the right row against the rivals of all queries instead.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxalign.array_types import Modality
from jaxalign.evaluate.hubness import hubness_offsets
from jaxalign.evaluate.recipes import Recipe, Searcher, Side
from jaxalign.evaluate.standing import Standing, pooled_top1, stand_out
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.anchors.folds import fold_rows

Pairs = Mapping[Modality, tuple[np.ndarray, np.ndarray]]


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

    def describe(self) -> str:
        """Say the job in a few words.

        >>> Job("image", "text").describe()
        'source image -> target text'
        """
        other = "target" if self.queries_are == "source" else "source"
        return f"{self.queries_are} {self.query} -> {other} {self.index}"


class HeldOut(NamedTuple):
    """One recipe: by job, chance and hit of each held-out row, and its group."""

    chances: list[Float[np.ndarray, " n"]]
    hits: list[Float[np.ndarray, " n"]]
    groups: list[Int[np.ndarray, " n"]]

    @property
    def score(self) -> float:
        """Mean over jobs of the pooled top-1."""
        return float(np.mean([values.mean() for values in self.chances]))

    def standard_error(self, other: "HeldOut | None" = None) -> float:
        r"""Standard error of the score, or of the difference to another recipe's.

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
    """One fold: rows to fit on and rows to ask for, by modality."""

    fit: Pairs
    fit_groups: Mapping[Modality, np.ndarray]
    held: Pairs
    held_ids: Mapping[Modality, np.ndarray]
    held_groups: Mapping[Modality, np.ndarray]


def cut_folds(
    pairs: Pairs,
    ids: Mapping[Modality, Int[np.ndarray, " n"]],
    groups: Mapping[Modality, Int[np.ndarray, " n"]],
    *,
    count: int,
    most: int,
) -> list[Fold]:
    """Cut anchors into folds of whole groups.

    Args:
      pairs: by modality, source and target rows.
      ids: what each row shows; equal in all modalities where the thing is.
      groups: what is held out together.
      count: folds.
      most: rows held out of each modality at most; whole things are left out beyond.

    Returns:
      The folds, each with all other rows to fit on.
    """
    sizes = {name: len(source) for name, (source, _) in pairs.items()}
    fold_of_row = fold_rows(sizes, groups, count)
    number = 1 + max(int(folds.max()) for folds in fold_of_row.values())
    folds = []
    for fold in range(number):
        held = {name: np.flatnonzero(of == fold) for name, of in fold_of_row.items()}
        held = _thin(
            {name: (rows, ids[name][rows]) for name, rows in held.items()}, most
        )
        rest = {name: np.flatnonzero(of != fold) for name, of in fold_of_row.items()}
        folds.append(
            Fold(
                fit=_take(pairs, rest),
                fit_groups={name: groups[name][rows] for name, rows in rest.items()},
                held=_take(pairs, held),
                held_ids={name: ids[name][rows] for name, rows in held.items()},
                held_groups={name: groups[name][rows] for name, rows in held.items()},
            )
        )
    return folds


class FoldSearch:
    """Searches the held-out rows of one fold, by any map fitted on its other rows.

    Target rows are prepared once for all maps: they depend on the target means alone,
    and those are the same whatever was fitted on the fold.
    """

    def __init__(self, fold: Fold, jobs: Sequence[Job]):
        self._fold, self._jobs = fold, jobs
        self._asked = [asked_rows(fold, job) for job in jobs]
        self._targets: dict[tuple, np.ndarray] = {}

    def score(
        self, amap: AlignmentMap, recipes: Sequence[Recipe]
    ) -> list[list[Standing | None]]:
        """Search by one map, for each recipe and job.

        Args:
          amap: fitted on the fold's other rows.
          recipes: that use the map, alike in all but `hubness_k`.

        Returns:
          By recipe and job, the standing of the rows that are asked; None without any.
        """
        # Held-out anchors may be shorter or longer than those that a fold fits on.
        searcher = Searcher(dataclasses.replace(amap, source_norms=None), recipes[0])
        sources: dict[tuple, np.ndarray] = {}

        def prepared(which: str, name: Modality, side: str) -> np.ndarray:
            pairs = self._fold.held if which == "held" else self._fold.fit
            is_source = side == "source"
            kept = sources if is_source else self._targets
            key = (which, name, recipes[0].centre_target)
            if key not in kept:
                prepare = searcher.prepare_source
                if not is_source:
                    prepare = searcher.prepare_target
                rows = pairs[name][0 if is_source else 1]
                kept[key] = np.asarray(prepare(rows, name))
            return kept[key]

        found: list[list[Standing | None]] = [[] for _ in recipes]
        for job, asked in zip(self._jobs, self._asked, strict=True):
            if not asked.any():
                for standings in found:
                    standings.append(None)
                continue
            other = "target" if job.queries_are == "source" else "source"
            index = prepared("held", job.index, other)
            queries = prepared("held", job.query, job.queries_are)[asked]
            for standings, recipe in zip(found, recipes, strict=True):
                offsets = None
                if recipe.hubness_k:
                    anchors = prepared("fit", job.query, job.queries_are)
                    k = min(recipe.hubness_k, len(anchors))
                    offsets = np.asarray(hubness_offsets(anchors, index, k=k))
                standings.append(
                    stand_out(
                        queries,
                        self._fold.held_ids[job.query][asked],
                        index,
                        self._fold.held_ids[job.index],
                        offsets=offsets,
                    )
                )
        return found


def join_folds(
    parts: Sequence[Sequence[Standing | None]],
    groups: Sequence[np.ndarray],
    index_size: int,
) -> HeldOut:
    """Pool what one recipe found in all folds.

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


def asked_rows(fold: Fold, job: Job) -> np.ndarray:
    """True for the held-out rows that the index has an answer to, and a rival."""
    found = fold.held_ids[job.index]
    answered = np.isin(fold.held_ids[job.query], found)
    return answered & (len(np.unique(found)) > 1)


def _take(pairs: Pairs, rows: Mapping[Modality, np.ndarray]) -> Pairs:
    """Some rows of each modality, read from memory maps row by row."""
    return {
        name: (np.asarray(source[rows[name]]), np.asarray(target[rows[name]]))
        for name, (source, target) in pairs.items()
    }


def _thin(rows_and_ids, most: int) -> dict[Modality, np.ndarray]:
    """Leave out whole things until no modality has more than `most` rows."""
    names = np.unique(np.concatenate([ids for _, ids in rows_and_ids.values()]))
    rank = np.random.default_rng(0).permutation(len(names))
    ranks = {
        name: rank[np.searchsorted(names, ids)]
        for name, (_, ids) in rows_and_ids.items()
    }
    # The first rank at which some modality would be too long.
    upto = len(names)
    for of_rows in ranks.values():
        if len(of_rows) > most:
            upto = min(upto, int(np.sort(of_rows)[most]))
    return {name: rows[ranks[name] < upto] for name, (rows, _) in rows_and_ids.items()}
