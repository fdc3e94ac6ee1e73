# SPDX-License-Identifier: Apache-2.0
"""`choose_map`: the map and the scorer for a purpose, chosen on held-out anchors.

No family wins everywhere. What the map is for says which to try; anchors that they were
not fitted on, asked by the search that they are for, say which of these to take.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxalign.anchors.anchors import ALL, Anchors, as_anchors
from jaxalign.array_types import ArrayLike, Modality
from jaxalign.choose.candidates import (
    FAMILIES,
    USES,
    Candidate,
    CandidateScore,
    HeldOutTop1,
    explain,
)
from jaxalign.choose.trials import Trials, first_of_the_best
from jaxalign.errors import ArgumentError, check_count, check_option
from jaxalign.families.family import Family
from jaxalign.families.likelihood_ratio import LikelihoodRatio
from jaxalign.families.orthogonal import Orthogonal
from jaxalign.families.scorer import Scorer, ScorerFamily, Side
from jaxalign.heldout.folds import Folds
from jaxalign.heldout.jobs import PURPOSES, Purpose, jobs_of
from jaxalign.heldout.things import number_things
from jaxalign.maps.assemble import check_card
from jaxalign.maps.fit import fit_map
from jaxalign.search.use import SearchMap, Use

FEWEST_ANCHORS, FEWEST_GROUPS, FEWEST_THINGS = 10, 3, 4
# Up to so many anchors every fold is held out of a choice, beyond them one is enough.
_ALL_FOLDS_UP_TO = 1000


@dataclasses.dataclass(frozen=True)
class MapChoice(SearchMap):
    """The map to use, how to use it, and why: `search.prepare` takes it.

    Attributes:
      map: fitted on all anchors, with its scorer; its card holds candidate and reason.
      use: how to use it in searches. A file of `map` holds it in the card alone: pass
        ``use=choice.use`` to `prepare` where it is not the default.
      anchors: that it was fitted on.
      purpose: what it was chosen for.
      candidate: what was chosen.
      reason: why, in one sentence.
      table: all candidates, best first; empty where nothing was compared.
      heldout: what to expect by job, from rows that no choice has seen; empty where
        nothing could be held out of a choice.
      folds: of the anchors, with the fits that were compared, which `judge` takes over;
        None where nothing was compared by things.
    """

    purpose: Purpose = dataclasses.field(kw_only=True)
    candidate: Candidate = dataclasses.field(kw_only=True)
    reason: str = dataclasses.field(kw_only=True)
    table: tuple[CandidateScore, ...] = dataclasses.field(kw_only=True, default=())
    heldout: dict[str, HeldOutTop1] = dataclasses.field(
        kw_only=True, default_factory=dict
    )
    folds: Folds | None = dataclasses.field(kw_only=True, default=None, repr=False)

    @property
    def scorer(self) -> Scorer | None:
        """The scorer of the map, or None where searches use the map of rows."""
        return self.map.scorer


def choose_map(
    anchors: Anchors
    | Mapping[Modality, tuple[ArrayLike, ArrayLike]]
    | tuple[ArrayLike, ArrayLike],
    purpose: Purpose = "search",
    *,
    query: Modality | None = None,
    index: Modality | None = None,
    queries_are: Side | None = None,
    families: Sequence[Family | ScorerFamily] | None = None,
    uses: Sequence[Use] = USES,
    fit_on: Sequence[Modality] | None = None,
    folds: int = 5,
    most_held_out: int = 400,
    source_space: str | None = None,
    target_space: str | None = None,
    card: Mapping[str, Any] | None = None,
) -> MapChoice:
    """Choose family, strength, fit modality and use for a purpose, on held-out anchors.

    The purpose decides which candidates there are. Each is fitted on all folds but one,
    and asked to find the rows of that one among each other. What counts is the mean
    log-softmax of the right rows over groups, at a temperature fitted on other folds.
    Chosen is the first candidate within one standard error of the best, in the order of
    the purpose; it is fitted again on all anchors.

    Args:
      anchors: as `fit_map` takes them. Their groups are held out whole; rows of one id,
        and rows that are equal on either side, are one thing: each is a right answer
        for the others. Modalities are compared by ids alone.
      purpose: ``"search"``: within a modality, old rows by new queries or new rows by
        old ones. ``"rewrite"``: carried rows are stored and searched by distance, so
        that the map keeps distances; new queries ask, in a centred search, which
        `search.rewrite_rows` in its form for search comes near to. ``"cross"``: queries
        of one modality search rows of another. ``"zero_shot"``: the same, and all rows
        of the query's group are right, such as the texts of its class.
      query: modality of the queries. Default: for "search" and "rewrite" each modality
        with pairs, else "image", or the first of two.
      index: modality of the rows that are searched. Default: the query's, or for
        "cross" and "zero_shot" "text", or the second of two.
      queries_are: which model's rows ask, "source" or "target". Default: both are
        tried, half of the weight each; for "rewrite" the target's alone.
      families: to try instead of the purpose's: families of maps and of scorers, in the
        order in which ties are broken. Several strengths of one are several candidates.
      uses: to try, with each family those that fit it.
      fit_on: modalities to fit on; default each of the anchors', and "all" of several.
      folds: at least 2; fewer are cut where a fold would hold less than two things.
      most_held_out: rows of a modality that are asked for in a fold, at most; at least
        2.
      source_space: as of `fit_map`.
      target_space: as of `fit_map`.
      card: as of `fit_map`; "candidate" and "choice" are written beside it.

    Returns:
      The choice. Where nothing can be compared the table is empty: with fewer than 10
      anchors of a modality to fit on, 3 groups or 4 things it is the default map and
      search, or the first of `families`. For a search of a modality without pairs it is
      the likelihood ratio where anchors are no more than dimensions, and else an
      orthogonal map.

    Raises:
      ValueError: for what `fit_map` refuses, an unknown purpose or modality, a search
        between modalities without ids, fewer than 2 folds, or nothing to try.

    Notes:
      Deterministic. Weights of anchors count in fits, not in scores. `heldout` chooses
      anew without each fold, and asks its rows: an honest figure, in an index as small
      as a fold. Beyond 1,000 anchors it does so for one fold. Cost: one pass over the
      anchors; by family and fit modality one solve O(d^3) for each set of folds that is
      left out, 15 up to 1,000 anchors and 9 beyond with 5 folds; and for each of them
      searches among `most_held_out` rows. A family that needs rows, or that chooses a
      strength, takes as many fits of its own. So keep `folds` few.

    >>> import jax
    >>> from jaxalign.data.planted import planted_pairs
    >>> planted = planted_pairs(jax.random.key(0), 60, 4, modalities=("text",))
    >>> choice = choose_map(planted.pairs, "rewrite", families=[Orthogonal()])
    >>> choice.candidate.family, choice.map.modalities
    (Orthogonal(keep='identified', proper=False), ('text',))
    """
    call = "choose_map"
    given = as_anchors(call, anchors).on_host()
    check_option(call, "purpose", purpose, PURPOSES)
    for name, value in (("folds", folds), ("most_held_out", most_held_out)):
        check_count(call, name, value, least=2)
    tried = list(FAMILIES[purpose]) if families is None else families
    order = _default_fits(given) if fit_on is None else fit_on
    _check_lists(given, tried, uses, order)
    check_card(call, card)
    jobs = jobs_of(given, purpose, query, index, queries_are)
    for family in tried:
        _check_family(family, purpose, jobs)
    ways = [
        Candidate(family, of, use)
        for of in dict.fromkeys(order)
        for family in dict.fromkeys(tried)
        for use in dict.fromkeys(uses)
        if (use.score == "scorer") == isinstance(family, ScorerFamily)
    ]
    # Families before modalities: ties go to the purpose's order.
    ways.sort(key=lambda way: list(tried).index(way.family))
    if not ways:
        raise ArgumentError(
            f"{call}(uses={uses!r})",
            "a use that fits one of the families",
            remedy="scorers take Use(score='scorer'), maps of rows the others",
        )
    options = {
        "card": card,
        "source_space": source_space,
        "target_space": target_space,
    }
    unseen = {job.query for job in jobs} | {job.index for job in jobs}
    unseen -= set(given.rows)
    if unseen:
        return _by_rule(given, purpose, ways, jobs, options)
    numbered = number_things(given)
    if purpose == "zero_shot":
        groups = {name: one.known("groups") for name, one in numbered.rows.items()}
        numbered = numbered.with_labels(ids=groups, groups=groups)
    rows = [numbered.rows[name] for name in sorted({j.query for j in jobs})]
    rows += [numbered.rows[name] for name in sorted({j.index for j in jobs})]
    fitted = list(given.rows) if ALL in order else list(order)
    fewest = min(len(given.rows[name]) for name in fitted)
    held = min(len(np.unique(one.known("groups"))) for one in rows)
    things = min(len(np.unique(one.known("ids"))) for one in rows)
    if fewest < FEWEST_ANCHORS or held < FEWEST_GROUPS or things < FEWEST_THINGS:
        what = f"{things} thing" if held >= FEWEST_GROUPS else f"{held} group"
        what = f"{fewest} anchor" if fewest < FEWEST_ANCHORS else what
        what += " is" if what.startswith("1 ") else "s are"
        first = ways[0]
        if families is None:
            # The fewest anchors that there can be determine this.
            first = Candidate(Orthogonal(), ways[0].fit_on, Use())
        reason = (
            f"{what} too few to hold any out, so nothing was compared: "
            f"{first.describe()}."
        )
        return _finish(given, purpose, first, reason, options)
    wanted = {*fitted, *(job.query for job in jobs), *(job.index for job in jobs)}
    numbered = numbered.take(
        {n: np.arange(len(numbered.rows[n])) for n in given.rows if n in wanted}
    )
    cut = Folds(
        numbered,
        count=fold_count(folds, things),
        most=most_held_out,
        tunes=any(not way.of_rows.tuned for way in ways),
    )
    outer = cut.count if fewest <= _ALL_FOLDS_UP_TO else 1
    trials = Trials(cut, ways, jobs, outer=outer if cut.count > 2 else 0)
    table = tuple(sorted(trials.in_order, key=lambda row: -row.score))
    chosen = first_of_the_best(trials.in_order)
    heldout = trials.heldout()
    reason = explain(purpose, chosen, table, heldout)
    choice = _finish(given, purpose, chosen, reason, options, table, heldout)
    # Groups that answer each other are no things that find themselves.
    return dataclasses.replace(choice, folds=None if purpose == "zero_shot" else cut)


def fold_count(folds: int, things: int) -> int:
    """Number of folds that each hold two things: one held out alone has no rival."""
    return min(int(folds), max(2, things // 2))


def _finish(
    anchors: Anchors,
    purpose: Purpose,
    candidate: Candidate,
    reason: str,
    options: Mapping[str, Any],
    table: tuple[CandidateScore, ...] = (),
    heldout: Mapping[str, HeldOutTop1] = {},
) -> MapChoice:
    """Fit the chosen candidate on all anchors."""
    notes = {
        **(options["card"] or {}),
        "purpose": purpose,
        "candidate": candidate.to_json(),
        "choice": reason,
    }
    amap = fit_map(
        anchors,
        candidate.of_rows,
        scorer=candidate.scorer,
        fit_on=candidate.fit_on,
        **{**options, "card": notes},
    )
    return MapChoice(
        amap,
        candidate.use,
        anchors,
        purpose=purpose,
        candidate=candidate,
        reason=reason,
        table=table,
        heldout=dict(heldout),
    )


def _check_family(family, purpose, jobs) -> None:
    """Raise for a scorer that the purpose or a job has no use for."""
    if not isinstance(family, ScorerFamily):
        return
    if purpose == "rewrite":
        raise ArgumentError(
            f"choose_map(purpose='rewrite', families=[{family}])",
            "families of maps, since a store holds carried rows",
            "a scorer",
            "leave it out, or pass purpose='search'",
        )
    other = [job for job in jobs if family.queries_are not in (None, job.queries_are)]
    if other:
        raise ArgumentError(
            f"choose_map(families=[{family}])",
            f"searches by queries of the {family.queries_are} model alone",
            f"also {other[0].describe()!r}",
            f"pass queries_are={family.queries_are!r}",
        )


def _by_rule(anchors, purpose, ways, jobs, options) -> MapChoice:
    """Choose for a modality without pairs, where held-out anchors say nothing."""
    fit_on = ways[0].fit_on
    names = list(anchors.rows) if fit_on == ALL else [fit_on]
    few = sum(anchors.rows[name].count for name in names) <= min(anchors.widths)
    wanted = LikelihoodRatio if few and purpose != "rewrite" else Orthogonal
    chosen = next((way for way in ways if isinstance(way.family, wanted)), ways[0])
    names = sorted({j.query for j in jobs} | {j.index for j in jobs})
    lacking = [name for name in names if name not in anchors.rows]
    than = "no more" if few else "more"
    reason = (
        f"Chosen for {purpose!r}: {chosen.describe()}, by rule, since {lacking[0]!r} "
        f"has no pairs to hold out and there are {than} anchors than dimensions."
    )
    return _finish(anchors, purpose, chosen, reason, options)


def _default_fits(anchors: Anchors) -> list[Modality]:
    """Images before the others, then all of them."""
    names = sorted(anchors.modalities, key=lambda name: name != "image")
    return [*names, ALL] if len(names) > 1 else names


def _check_lists(anchors, families, uses, order) -> None:
    """Raise for lists that leave nothing to choose among."""
    for name, given, kinds, word in (
        ("families", families, (Family, ScorerFamily), "family of maps or scorers"),
        ("uses", uses, Use, "Use"),
        ("fit_on", order, str, "modality"),
    ):
        listed = isinstance(given, Sequence) and not isinstance(given, str)
        if not listed or not given or not all(isinstance(one, kinds) for one in given):
            raise ArgumentError(
                f"choose_map({name}={given!r})",
                f"a list of one or more {word}",
                remedy="leave it out for the default",
            )
    if not set(order) <= {*anchors.modalities, ALL}:
        raise ArgumentError(
            f"choose_map(fit_on={order!r})",
            f"some of {(*sorted(anchors.modalities), ALL)}",
            remedy="leave it out for the default",
        )
