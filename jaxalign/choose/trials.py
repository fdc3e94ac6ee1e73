# SPDX-License-Identifier: Apache-2.0
"""Every candidate on every fold that its fit has not seen, and choices among them."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from jaxalign.choose.candidates import Candidate, CandidateScore, HeldOutTop1
from jaxalign.choose.likelihood import fit_sharpness, log_shares
from jaxalign.errors import ArgumentError
from jaxalign.heldout.folds import Folds, LeftOut
from jaxalign.heldout.jobs import Job
from jaxalign.heldout.scores import FoldScores
from jaxalign.maps.alignment_map import AlignmentMap

# Folds that a strength is chosen by, or an MLP stopped by, ask for so many anchors.
_FEWEST_TO_TUNE = 10


class Trials:
    """What every candidate made of every fold that its fit has not seen."""

    def __init__(
        self,
        folds: Folds,
        ways: Sequence[Candidate],
        jobs: Sequence[Job],
        *,
        outer: int,
    ):
        """Prepare to try all candidates.

        Args:
          folds: of the anchors.
          ways: the candidates.
          jobs: the searches.
          outer: so many folds, the first ones, are held out of a choice in turn.
        """
        self._folds, self._jobs, self._outer = folds, jobs, range(outer)
        numbers = range(folds.count)
        self._sets: list[LeftOut] = [(fold,) for fold in numbers]
        self._sets += [(f, g) for f in self._outer for g in numbers if f < g]
        few = folds.fewest < _FEWEST_TO_TUNE
        self._ways = [way for way in ways if not (few and way.of_rows.holds_out)]
        if not self._ways:
            raise _nothing_fits(folds, ways)
        for job in jobs:
            if not self._answers(numbers, job):
                raise ArgumentError(
                    "choose_map(anchors=Anchors(ids=...))",
                    "some held-out row of each job to have its own among the others",
                    "none",
                    "the ids of modalities must be the same labels",
                )
        self._ways = [way for way in self._ways if self._fits(way) is not None]
        if not self._ways:
            raise _nothing_fits(folds, ways)
        self._found: dict[tuple, FoldScores | None] = {}

    @functools.cached_property
    def in_order(self) -> list[CandidateScore]:
        """All candidates as they were listed."""
        return self._compare(range(self._folds.count), ())

    def heldout(self) -> dict[str, HeldOutTop1]:
        """Choose without each of the outer folds, and ask its rows."""
        hits: dict[Job, list[np.ndarray]] = {job: [] for job in self._jobs}
        shares: dict[Job, list[np.ndarray]] = {job: [] for job in self._jobs}
        for fold in self._outer:
            rest = [other for other in range(self._folds.count) if other != fold]
            if not all(self._answers(rest, job) for job in self._jobs):
                continue  # nothing to choose by
            way = first_of_the_best(self._compare(rest, (fold,)))
            for job in self._jobs:
                found = self._search(way, fold, job, ())
                if found is not None:
                    hits[job].append(found.hits())
                    shares[job].append(found.right.mean(axis=1))
        return {
            job.describe(): HeldOutTop1(
                float(np.mean(np.concatenate(own))),
                sum(map(len, own)),
                float(np.mean(np.concatenate(shares[job]))),
            )
            for job, own in hits.items()
            if own
        }

    def _compare(self, folds: Sequence[int], out: LeftOut) -> list[CandidateScore]:
        """Score all candidates on some folds, by fits that leave `out` out as well."""
        found = [self._judge(way, folds, out) for way in self._ways]
        best = max(found, key=lambda one: one.score)
        return [
            CandidateScore(
                candidate=way,
                score=one.score,
                top1=one.top1,
                behind=best.score - one.score,
                standard_error=best.standard_error(one),
            )
            for way, one in zip(self._ways, found, strict=True)
        ]

    def _judge(self, way: Candidate, folds: Sequence[int], out: LeftOut) -> "Judged":
        """Log-softmax on some folds, each at the temperature of the others."""
        values, groups, top1 = [], [], {}
        for job in self._jobs:
            scores = {f: self._search(way, f, job, out) for f in folds}
            whole = {f: one for f, one in scores.items() if one is not None}
            logs = []
            for fold, own in whole.items():
                # Of a single fold there is no other.
                rest = [one for f, one in whole.items() if f != fold] or [own]
                logs.append(log_shares(own, fit_sharpness(rest)))
            values.append(np.concatenate(logs))
            groups.append(np.concatenate([one.groups for one in whole.values()]))
            hits = np.concatenate([one.hits() for one in whole.values()])
            top1[job.describe()] = float(hits.mean())
        return Judged(values, groups, top1)

    def _search(
        self, way: Candidate, fold: int, job: Job, out: LeftOut
    ) -> FoldScores | None:
        """Ask a fold by a fit without it and without others, once."""
        left_out = tuple(sorted({fold, *out}))
        key = (way, fold, job, left_out)
        if key not in self._found:
            maps = self._fits(way)
            assert maps is not None
            amap = maps[left_out]
            self._found[key] = self._folds.search(amap, way.use, left_out, fold, job)
        return self._found[key]

    def _answers(self, folds: Sequence[int], job: Job) -> bool:
        """Whether some row of the folds has an answer."""
        return any(self._folds.asked(fold, job).any() for fold in folds)

    def _fits(self, way: Candidate) -> dict[LeftOut, AlignmentMap] | None:
        """Maps without each set of folds, solved at once; None where one has none."""
        return self._folds.fit(way.family, way.fit_on, self._sets)


def _nothing_fits(folds: Folds, ways: Sequence[Candidate]) -> ArgumentError:
    """Make the error of candidates that too few anchors are left for."""
    return ArgumentError(
        "choose_map(families=...)",
        f"a family that so few anchors can fit, {folds.fewest} or fewer in a fold, of "
        "rank two or more",
        [way.family.describe() for way in ways],
        "leave it out for the default, or pass more anchors that differ",
    )


def first_of_the_best(found: Sequence[CandidateScore]) -> Candidate:
    """The first candidate within one standard error of the best."""
    return next(row.candidate for row in found if row.behind <= row.standard_error)


@dataclasses.dataclass(frozen=True)
class Judged:
    """One candidate: by job, log-softmax of each query, and its group."""

    values: list[Float[np.ndarray, " n"]]
    groups: list[Int[np.ndarray, " n"]]
    top1: dict[str, float]

    @property
    def score(self) -> float:
        """Mean over jobs of the mean over groups."""
        return float(np.mean([np.mean(own) for own in self._by_group()]))

    def _by_group(self) -> list[Float[np.ndarray, " g"]]:
        """Means by group, of the groups that each job has."""
        found = []
        for values, groups in zip(self.values, self.groups, strict=True):
            number, inverse = np.unique(groups, return_inverse=True)
            total = np.bincount(inverse, weights=values, minlength=len(number))
            found.append(total / np.bincount(inverse, minlength=len(number)))
        return found

    def standard_error(self, other: "Judged") -> float:
        r"""Standard error of the difference to another candidate's score.

        With :math:`\psi_g` what group g adds to the deviation from the mean, it is
        :math:`\sqrt{\frac{G}{G - 1} \sum_g \psi_g^2}`.
        """
        number = 1 + max(int(groups.max()) for groups in self.groups)
        influence, present = np.zeros(number), np.zeros(number, bool)
        pairs = zip(self._by_group(), other._by_group(), self.groups, strict=True)
        for own, theirs, groups in pairs:
            gaps = own - theirs
            deviation = (gaps - gaps.mean()) / (len(gaps) * len(self.groups))
            influence[np.unique(groups)] += deviation
            present[groups] = True
        count = int(present.sum())
        if count < 2:
            return 0.0
        return float(np.sqrt(count / (count - 1) * np.sum(influence**2)))
