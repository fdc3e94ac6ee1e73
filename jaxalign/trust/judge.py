# SPDX-License-Identifier: Apache-2.0
"""`judge`: can a map be used? Measured on anchors that were held out of its fit."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxalign.anchors.anchors import ALL, Anchors, as_anchors
from jaxalign.array_types import ArrayLike, Modality
from jaxalign.errors import ArgumentError
from jaxalign.families.family import Family
from jaxalign.families.orthogonal import Orthogonal
from jaxalign.families.scorer import ScorerFamily
from jaxalign.heldout.candidate import Candidate
from jaxalign.heldout.folds import Folds
from jaxalign.heldout.pool import Pool, PoolAnswers, join_answers
from jaxalign.heldout.regions import with_regions
from jaxalign.heldout.things import number_things
from jaxalign.maps.options import weights_of
from jaxalign.search.use import SearchMap, Use
from jaxalign.trust.verdict import (
    FEWEST_GROUPS,
    FULL_INDEX,
    Figure,
    HeldOut,
    Marks,
    Verdict,
    chance_of,
    decide,
    describe,
    ratio_figure,
    share_figure,
)

FOLDS = 5
# Rows that are asked in a fold. Beyond so many anchors the rows of one fold are asked
# where that takes fits without two folds, or among shuffled pairs.
_QUERIES, _ALL_FOLDS_UP_TO, _ALL_SHUFFLED_UP_TO, _SEED = 400, 2500, 200, 0
# Rows held out with those near them must find this share of what others find; of few
# rows more of it, since their regions are small. Maps of real models were at 0.77 and
# more from 30 anchors on, the shipped pair at 0.61, unrelated sides below 0.4 but for
# less than 50 rows, below 0.66.
_SHARE_APART, _SHARE_OF_FEW, _FEW_GROUPS = 0.5, 2 / 3, 50
_ALL_REGIONS_UP_TO = 400


def judge(
    anchors: Anchors
    | Mapping[Modality, tuple[ArrayLike, ArrayLike]]
    | tuple[ArrayLike, ArrayLike],
    of: Family | ScorerFamily | SearchMap = Orthogonal(),  # noqa: B008 (frozen)
    *,
    fit_on: Modality | None = None,
    use: Use | None = None,
    marks: Marks = Marks(),  # noqa: B008 (frozen)
) -> Verdict:
    """Judge whether a map of these anchors can be used, on pairs held out of its fit.

    Groups of anchors are held out whole, a fifth at a time. Each held-out source row is
    searched among 1,000 target rows, or as many as there are: those of its fold, and
    those of other folds by fits without these (see `heldout.pool`). The same is done
    once more with shuffled pairs. Where rows find their partners only while rows like
    them are among the anchors, as frames of a film or near-copies may without any map,
    regions of rows are held out whole, and the figures are of these.

    Args:
      anchors: as `fit_map` takes them.
      of: the family of a map or of a scorer, or what `choose_map` gives; of the latter
        fits are taken over where the anchors are the same.
      fit_on: modality that the map is fitted on, or "all". Default: as of `fit_map`,
        or the choice's.
      use: in searches. Default: the choice's, or that of the family.
      marks: shares of hits that the words go by.

    Returns:
      The verdict: one word by the rules of `trust.verdict.decide`, a sentence, and the
      figures with 95 % intervals over groups beside those of shuffled pairs. It is that
      of the modality that the map is fitted on; ``others`` has those of the others.

    Raises:
      ValueError: for what `fit_map` refuses.

    Notes:
      Deterministic. Cost: two passes over the anchors, one with shuffled pairs, and up
      to 31 solves O(d^3), 7 where a fold has 1,000 rows.

    >>> import jax
    >>> from jaxalign.data.planted import planted_pairs
    >>> planted = planted_pairs(jax.random.key(0), 40, 4, modalities=("text",))
    >>> judge(planted.pairs["text"]).word
    'usable'
    """
    call = "judge"
    given = as_anchors(call, anchors).on_host()
    if not isinstance(marks, Marks):
        raise ArgumentError(
            f"{call}(marks={marks!r})", "Marks", remedy="pass ja.trust.Marks(...)"
        )
    way, cut = _asked_for(call, given, of, fit_on, use)
    _, weights = weights_of(call, given.modalities, way.fit_on)
    first = next(iter(weights))
    if cut is None:
        cut = cut_anchors(number_things(given), (way,))
    found = {
        name: _judge_one(cut, way, name, marks)
        for name in sorted(given.modalities, key=lambda name: name != first)
    }
    verdict = found.pop(first)
    return dataclasses.replace(verdict, others=found)


def cut_anchors(
    numbered: Anchors, ways, *, folds: int = FOLDS, most: int = _QUERIES
) -> Folds:
    """Cut anchors, as `number_things` gives them, into folds that candidates share."""
    return Folds(
        numbered,
        count=folds,
        most=most,
        tunes=any(not way.of_rows.tuned for way in ways),
    )


def _asked_for(call, anchors, of, fit_on, use) -> tuple[Candidate, Folds | None]:
    """The candidate to judge, and folds whose fits can be taken over."""
    if isinstance(of, SearchMap):
        way = getattr(of, "candidate", None)
        if way is None:
            raise ArgumentError(
                f"{call}(of=...)",
                "a family, or what `choose_map` gives",
                type(of).__name__,
                "pass the family that the map is of",
            )
        way = Candidate(way.family, fit_on or way.fit_on, use or way.use)
        cut, given = getattr(of, "folds", None), of.anchors
        known = cut is not None and given is not None and _same(given, anchors)
        return way, cut if known else None
    if not isinstance(of, Family | ScorerFamily):
        raise ArgumentError(
            f"{call}(of={of!r})",
            "a family, or what `choose_map` gives",
            type(of).__name__,
            "pass ja.Orthogonal(), or leave it out",
        )
    scored = isinstance(of, ScorerFamily)
    if use is not None and (use.score == "scorer") != scored:
        raise ArgumentError(
            f"{call}(use={use!r})",
            "a use that fits the family",
            remedy="scorers take Use(score='scorer'), maps of rows the others",
        )
    told, weights = weights_of(call, anchors.modalities, fit_on)
    default = Use.SCORER if scored else Use()
    return Candidate(
        of, told if told == ALL else next(iter(weights)), use or default
    ), None


def _same(one: Anchors, other: Anchors) -> bool:
    """Whether two sets of anchors hold the same rows."""

    def equal(left, right):
        return left is right or np.array_equal(np.asarray(left), np.asarray(right))

    return set(one.rows) == set(other.rows) and all(
        equal(rows.source, other.rows[name].source)
        and equal(rows.target, other.rows[name].target)
        for name, rows in one.rows.items()
    )


def _judge_one(cut: Folds, way: Candidate, modality: Modality, marks: Marks) -> Verdict:
    """Judge one modality of the anchors."""
    pairs = cut.anchors.rows[modality]
    groups, figures = len(np.unique(pairs.known("groups"))), None
    if groups >= FEWEST_GROUPS:
        figures = _measure(cut, way, modality)
        if decide(figures, marks) in ("usable", "weak"):
            figures = _held_out_by_region(cut, way, modality, figures)
    word = decide(figures, marks)
    sentence = describe(word, figures, len(pairs), groups)
    return Verdict(word, sentence, modality, len(pairs), figures, marks)


def _held_out_by_region(
    cut: Folds, way: Candidate, modality: Modality, figures: HeldOut | None
) -> HeldOut | None:
    """Figures of rows that are held out with all that lies near them, if those fail.

    Rows that lean on others like them find far fewer partners so. A map that holds
    everywhere finds nearly as many, and its figures stay as they are.
    """
    assert figures is not None
    anchors = with_regions(cut.anchors, modality)
    apart = cut_anchors(anchors, (way,), folds=cut.count)
    few = len(anchors.rows[modality]) <= _ALL_REGIONS_UP_TO
    near, far = (_above_chance(held, way, modality, few) for held in (cut, apart))
    few_groups = figures.groups <= _FEW_GROUPS
    if far >= (_SHARE_OF_FEW if few_groups else _SHARE_APART) * near:
        return figures
    regions = _measure(apart, way, modality)
    return None if regions is None else dataclasses.replace(regions, by_region=True)


def _above_chance(cut: Folds, way: Candidate, modality: Modality, all_folds) -> float:
    """Share of hits within folds, less what chance would give; 0 if nothing fits."""
    pool, found = _pool(cut, way, modality), []
    for fold in range(cut.count if all_folds else 1):
        # One set at a time, by one program.
        maps = cut.fit(way.family, way.fit_on, [(fold,)])
        scores = None
        if maps is not None:
            scores = pool.ask_in_fold(maps[(fold,)], (fold,), fold)
        if scores is not None:
            found.append(scores.hits() - scores.right.mean(axis=1))
    return float(np.mean(np.concatenate(found))) if found else 0.0


def _measure(cut: Folds, way: Candidate, modality: Modality) -> HeldOut | None:
    """Figures of held-out rows, beside those of shuffled pairs."""
    anchors = len(cut.anchors.rows[modality])
    pool = _pool(cut, way, modality)
    # Fits without two folds are many: all of them for few anchors, or those of one.
    pooled = any(len(pool.left_out(fold)) > 1 for fold in range(cut.count))
    some = 1 if pooled and anchors > _ALL_FOLDS_UP_TO else cut.count
    answers = _ask(pool, way, range(some))
    if answers is None:
        return None
    hits = answers.hits.astype(float)
    top1 = share_figure(hits, answers.groups)
    near = ratio_figure(answers.overlap, np.ones_like(hits), answers.groups)
    left = ratio_figure(answers.error, answers.spread, answers.groups)
    few = cut.count if anchors <= _ALL_SHUFFLED_UP_TO else 1
    none = _ask(_pool(_shuffled(cut, way, modality), way, modality), way, range(few))
    beside: list[float | None] = [None] * 3
    if none is not None:
        beside = [
            float(none.hits.mean()),
            float(none.overlap.mean()),
            1.0 - float(none.error.sum() / none.spread.sum()),
        ]
    chance = float(answers.chance.mean())
    return HeldOut(
        top1=dataclasses.replace(top1, shuffled=beside[0]),
        neighbours=Figure(
            near.value, max(0.0, near.low), min(1.0, near.high), beside[1]
        ),
        explained=Figure(1 - left.value, 1 - left.high, 1 - left.low, beside[2]),
        rows=int(answers.rows.min()),
        chance=chance,
        queries=len(hits),
        groups=len(np.unique(answers.groups)),
        outside=float(answers.outside.sum() / answers.energy.sum()),
        doubled=_doubled(pool, way, answers, top1.value),
        p_value=chance_of(hits, answers.groups, chance),
    )


def _pool(cut: Folds, way: Candidate, modality: Modality) -> Pool:
    """How the rows of a modality are asked."""
    asks = getattr(way.family, "queries_are", None) or "source"
    return Pool(cut, way.use, modality, asks, _QUERIES, FULL_INDEX)


def _ask(pool: Pool, way: Candidate, folds: range) -> PoolAnswers | None:
    """Ask the rows of some folds, each by fits without it; None if nothing fits."""
    sets = [out for fold in folds for out in pool.left_out(fold)]
    maps = pool.folds.fit(way.family, way.fit_on, sets)
    if maps is None:
        return None
    return join_answers([pool.ask(maps, fold) for fold in folds])


def _doubled(
    pool: Pool, way: Candidate, answers: PoolAnswers, top1: float
) -> float | None:
    """Top-1 that twice as many anchors would reach, from what half of them do.

    Misses fall about as a power of the number of anchors; both numbers are compared
    within folds, where half of the anchors have as many rivals.
    """
    count = pool.folds.count
    kept = (count - 1) // 2
    if not kept:
        return None
    half = tuple(sorted(step % count for step in range(count - kept)))
    maps = pool.folds.fit(way.family, way.fit_on, [half])
    if maps is None:
        return None
    found = pool.ask_in_fold(maps[half], half, 0)
    if found is None:
        return None
    hits = found.hits()
    whole = answers.hits_in_fold[: len(hits)]
    misses = [np.sum(~one) + 0.5 for one in (whole, hits)]
    return 1.0 - (1.0 - top1) * min(1.0, misses[0] / misses[1])


def _shuffled(cut: Folds, way: Candidate, modality: Modality) -> Folds:
    """The same folds with the target rows of one modality dealt out anew."""
    pairs = cut.anchors.rows[modality]
    order = np.random.default_rng(_SEED).permutation(len(pairs))
    mixed = dataclasses.replace(
        pairs,
        target=np.asarray(pairs.target)[order],
        target_norms=pairs.target_norms[order],
    )
    anchors = cut.anchors.with_rows({**cut.anchors.rows, modality: mixed})
    return cut_anchors(anchors, (way,), folds=cut.count)
