# SPDX-License-Identifier: Apache-2.0
"""Folds of anchors, the fits that leave some out, and searches on what they left out.

Rows of a fold are asked for among the rows of the same fold: anchors that a map was
fitted on, and offsets measured with, are neither queries nor rivals. Any closed form is
solved from one pass over the rows, since folds are groups of its moments.
"""

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxalign.anchors.anchors import Anchors
from jaxalign.anchors.folds import fold_rows
from jaxalign.array_types import Modality
from jaxalign.buckets import pad_to_size
from jaxalign.errors import PoorFitWarning
from jaxalign.families.family import Family
from jaxalign.families.orthogonal import Orthogonal
from jaxalign.families.scorer import ScorerFamily
from jaxalign.heldout.jobs import Job
from jaxalign.heldout.scores import FoldScores
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.assemble import settled_scorer
from jaxalign.maps.fit import fit_map
from jaxalign.maps.fit_groups import fit_groups
from jaxalign.maps.options import weights_of
from jaxalign.moments import Moments, reduce_groups
from jaxalign.moments.pooling import pool_modalities
from jaxalign.precise import product
from jaxalign.search.blocks import row_size
from jaxalign.search.index import prepare
from jaxalign.search.use import SearchMap, Use, without_norms

MOST_SAMPLED = 1000
"""Anchors that offsets of a held-out search are measured by, at most."""

# Parts that a strength is chosen on, at least.
_PARTS = 4

LeftOut = tuple[int, ...]
"""Numbers of the folds that a fit does not see."""


class Folds:
    """Anchors cut into folds of whole groups; ids and groups are numbers."""

    def __init__(self, anchors: Anchors, *, count: int, most: int, tunes: bool):
        """Cut anchors, as `number_things` gives them.

        Args:
          anchors: on the host.
          count: folds.
          most: rows held out of each modality at most; whole things are left out
            beyond.
          tunes: whether a fit chooses a strength, on parts of the folds that it sees.
        """
        self.anchors, self._tunes, self._most = anchors, tunes, most
        self._maps: dict[tuple, dict[LeftOut, AlignmentMap] | None] = {}
        self._held: dict[int, Anchors] = {}
        self._fold_of_row = fold_rows(anchors.rows, count)
        self.count = 1 + max(int(folds.max()) for folds in self._fold_of_row.values())

    def held(self, fold: int) -> Anchors:
        """Rows of a fold that are asked, and searched."""
        if fold not in self._held:
            some = self.thinned(fold, self._most)
            self._held[fold] = self.anchors.take(some)
        return self._held[fold]

    def thinned(self, fold: int, most: int) -> dict[Modality, np.ndarray]:
        """Numbers of rows of a fold, at most so many of a modality, in whole things."""
        return _thin(self.anchors, self.rows_of((fold,)), most)

    @functools.cached_property
    def fewest(self) -> int:
        """Anchors of a modality that some fit has, at least."""
        return min(
            int(np.sum(of != fold))
            for of in self._fold_of_row.values()
            for fold in range(self.count)
        )

    def asked(self, fold: int, job: Job) -> np.ndarray:
        """True for the held-out rows that the index has an answer to, and a rival."""
        held = self.held(fold).rows
        found = held[job.index].known("ids")
        asks = np.isin(held[job.query].known("ids"), found)
        return asks & (len(np.unique(found)) > 1)

    def fit(
        self,
        family: Family | ScorerFamily,
        fit_on: Modality,
        left_out: Sequence[LeftOut],
    ) -> dict[LeftOut, AlignmentMap] | None:
        """Fit a family without some folds, for each set of them, once.

        Returns:
          The maps; None for a scorer that what is left determines too little of.
        """
        key = (family, fit_on)
        known = self._maps.setdefault(key, {})
        if known is None:
            return None
        missing = [out for out in dict.fromkeys(left_out) if out not in known]
        if missing:
            maps = self._fit_missing(family, fit_on, missing)
            if maps is None:
                self._maps[key] = None
                return None
            known |= dict(zip(missing, maps, strict=True))
        return {out: known[out] for out in left_out}

    def _fit_missing(
        self,
        family: Family | ScorerFamily,
        fit_on: Modality,
        left_out: Sequence[LeftOut],
    ) -> list[AlignmentMap] | None:
        """Fit a family for sets of folds that it was not fitted for."""
        if isinstance(family, ScorerFamily):
            return self._fit_scorers(family, fit_on, left_out)
        options: dict[str, Any] = {"fit_on": fit_on, "keep_anchors": 0}
        with warnings.catch_warnings():
            # The fit on all anchors warns.
            warnings.simplefilter("ignore", PoorFitWarning)
            if family.needs == "rows":
                parts = (self.rows_of(out, inside=False) for out in left_out)
                return [
                    fit_map(self.anchors.take(part), family, **options)
                    for part in parts
                ]
            if len(left_out) == 1 and family.tuned:
                # By the programs that the fit on all anchors takes as well.
                return [fit_map(self._reduced(left_out), family, **options)]
        subsets = self._subsets(left_out)
        return fit_groups(self._moments, subsets, family, fit_on=fit_on)

    def _fit_scorers(
        self, family: ScorerFamily, fit_on: Modality, left_out: Sequence[LeftOut]
    ) -> list[AlignmentMap] | None:
        """Fit scorers, beside maps of rows that another candidate needs as well."""
        maps = self.fit(Orthogonal(), fit_on, left_out)
        assert maps is not None
        _, weights = weights_of("choose_map", self._moments, fit_on)
        reduced = self._reduced(left_out)
        pooled = pool_modalities({name: reduced[name] for name in weights}, weights)
        scorers, rows = jax.device_get((family.solve(pooled), pooled.rows))
        if np.min(scorers.rank) < 2 or np.min(rows) < 3:
            return None
        if len(left_out) == 1:
            scorers, rows = jax.tree.map(lambda leaf: leaf[None], (scorers, rows))
        found = []
        for place, amap in enumerate(maps.values()):
            one = jax.tree.map(lambda leaf, place=place: leaf[place], scorers)
            scorer = settled_scorer("choose_map", one, int(rows[place]))
            found.append(dataclasses.replace(amap, scorer=scorer))
        return found

    def _reduced(self, left_out: Sequence[LeftOut]) -> dict[Modality, Moments]:
        """Moments without each set of folds, with a leading axis for several."""
        subsets = self._subsets(left_out)
        subsets = subsets[0] if len(left_out) == 1 else subsets
        return {
            name: reduce_groups(one, subsets) for name, one in self._moments.items()
        }

    def _subsets(self, left_out: Sequence[LeftOut]) -> np.ndarray:
        """Weights of the groups of the moments without some folds."""
        parts = next(iter(self._moments.values())).count.shape[0]
        fold_of_part = np.arange(parts) % self.count
        kept = np.array([~np.isin(fold_of_part, out) for out in left_out])
        return kept.astype(jax.dtypes.canonicalize_dtype(float))

    def search(
        self, amap: AlignmentMap, use: Use, left_out: LeftOut, fold: int, job: Job
    ) -> FoldScores | None:
        """Ask the rows of one fold for each other, by a map that has not seen them.

        Returns:
          Their scores; None where no row has an answer.
        """
        asked = self.asked(fold, job)
        if not asked.any():
            return None
        held = self.held(fold).rows
        known = self.rows_of(left_out, inside=False)[job.query]
        if len(known) > MOST_SAMPLED:
            known = np.random.default_rng(0).permutation(known)[:MOST_SAMPLED]
        side = job.queries_are
        # Held-out anchors may be shorter or longer than those that a fold fits on.
        index = prepare(
            SearchMap(without_norms(amap), use),
            getattr(held[job.index], job.rows_are),
            job.index,
            rows_are=job.rows_are,
            queries=job.query,
            query_sample=np.asarray(getattr(self.anchors.rows[job.query], side))[known],
        )
        queries = np.asarray(index.prepared(getattr(held[job.query], side)[asked]))
        n, m = len(queries), len(index)
        scores = _scores(
            pad_to_size(queries, row_size(n)),
            pad_to_size(index.rows, row_size(m)),
            pad_to_size(index.offsets, row_size(m)),
        )
        ids = held[job.query].known("ids")[asked]
        return FoldScores(
            np.asarray(scores)[:n, :m],
            ids[:, None] == held[job.index].known("ids")[None, :],
            held[job.query].known("groups")[asked],
        )

    def rows_of(
        self, folds: LeftOut, *, inside: bool = True
    ) -> dict[Modality, np.ndarray]:
        """Numbers of the rows of some folds, or of all others."""
        return {
            name: np.flatnonzero(np.isin(of, folds) == inside)
            for name, of in self._fold_of_row.items()
        }

    @functools.cached_property
    def _moments(self) -> dict[Modality, Moments]:
        """Moments of the parts of all folds: part p is of fold p modulo their number.

        `fold_rows` deals labels out in turn, so that a multiple of parts refines folds.
        """
        finer = -(-_PARTS // max(1, self.count - 2)) if self._tunes else 1
        parts = fold_rows(self.anchors.rows, self.count * finer)
        number = 1 + max(int(of.max()) for of in parts.values())
        number = -(-number // self.count) * self.count
        return self.anchors.moments(grams=True, group=parts, groups=number)


@jax.jit
def _scores(queries, rows, offsets):
    """Scores of all pairs."""
    return product(queries, rows.T) - offsets[None, :]


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
