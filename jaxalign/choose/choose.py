# SPDX-License-Identifier: Apache-2.0
"""`choose_map`: the family, the fit and the use that do best on held-out anchors.

No family of maps wins everywhere, and how a map is used decides as much as which it is.
So all are tried on anchors that they were not fitted on, by the search that they are
for; of those that do about as well as the best, the simplest is chosen.
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
    cost,
    explain,
    tabulate,
)
from jaxalign.choose.fold_fits import FoldFits
from jaxalign.choose.held_out import FoldSearch, HeldOut, Job, join_folds
from jaxalign.choose.standing import Standing
from jaxalign.errors import ArgumentError, check_count
from jaxalign.families import Orthogonal
from jaxalign.families.family import Family
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.encode import keeps_part
from jaxalign.maps.fit import fit_map
from jaxalign.search.use import SearchMap, Use
from jaxalign.solve.scale import Scale

FEWEST_ANCHORS, FEWEST_GROUPS, FEWEST_THINGS = 10, 3, 4
# Folds that a strength is chosen by, or an MLP stopped by, ask for so many anchors.
_FEWEST_TO_TUNE = 10


@dataclasses.dataclass(frozen=True)
class MapChoice(SearchMap):
    """The map to use, how to use it, and why: `search.prepare` takes it.

    Attributes:
      map: fitted on all anchors; its card holds the candidate and the reason.
      use: how to use it in searches.
      anchors: that it was fitted on.
      candidate: what was chosen.
      reason: why, in one sentence.
      table: all candidates, best first; empty where there were too few anchors.
    """

    candidate: Candidate = dataclasses.field(kw_only=True)
    reason: str = dataclasses.field(kw_only=True)
    table: tuple[CandidateScore, ...] = dataclasses.field(kw_only=True, default=())


def choose_map(
    anchors: Anchors
    | Mapping[Modality, tuple[ArrayLike, ArrayLike]]
    | tuple[ArrayLike, ArrayLike],
    *,
    jobs: Sequence[Job] | None = None,
    families: Sequence[Family] = FAMILIES,
    uses: Sequence[Use] = USES,
    fit_on: Sequence[Modality] | None = None,
    index_size: int = 1000,
    folds: int = 5,
    most_held_out: int = 1000,
    source_space: str | None = None,
    target_space: str | None = None,
    card: Mapping[str, Any] | None = None,
) -> MapChoice:
    """Choose family, scale, fit modality and use on held-out anchors.

    Every candidate is fitted on all folds but one, and asked to find the rows of that
    one among each other. What counts is top-1 against `index_size` rivals, drawn from
    those of all held-out queries (`pooled_top1`): exact top-1 among the few rows of a
    fold is often 100 % for candidates that differ much in a large index. The best mean
    over jobs sets the mark. Chosen is the simplest candidate that is behind by no more
    than one standard error of the difference; it is fitted again on all anchors.
    Simpler is, in this order: a rotation before ridge before an MLP, no offsets before
    offsets, an index left as it is before a centred one, one modality before all, the
    whole rotation before a part, the target mean added before not.

    Args:
      anchors: as `fit_map` takes them. Their groups are held out whole; rows of one id
        answer each other, and are no rivals. Without ids each row is its own thing, and
        modalities are not compared.
      jobs: the searches that the map is for. Default: each modality with itself, and
        with ids each with the others, source queries in target rows.
      families: to try; `Mlp` takes longest.
      uses: to try with each map.
      fit_on: modalities to fit on; default each of the anchors', and "all" of several.
      index_size: rivals and the right row, 1000 or the size of your index if less; at
        least 2.
      folds: at least 2; fewer are cut where a fold would hold less than two things.
      most_held_out: rows of a modality that are asked for in a fold, at most; at least
        2.
      source_space: as of `fit_map`.
      target_space: as of `fit_map`.
      card: as of `fit_map`; "candidate" and "choice" are written beside it.

    Returns:
      The choice. With fewer than 10 anchors of a modality, 3 groups, or 4 things to
      find, nothing can be held out: it is then the identified part of the rotation
      used by `Use()`, which is right most often, with an empty table.

    Raises:
      ValueError: for what `fit_map` refuses, an unknown modality in a job, a job
        between modalities without ids, fewer than 2 folds, or nothing to try.

    Notes:
      Deterministic. The score of the best of many candidates is a little too good: ask
      rows that nothing was chosen on for what to expect. Cost: one pass over the
      anchors, whose moments the fits of all folds share, folds times modalities times
      families solves of O(d^3) (ridges take five each, an MLP its own passes), and
      folds times candidates times jobs searches among `most_held_out` rows.

    >>> import jax
    >>> from jaxalign.data.planted import planted_pairs
    >>> planted = planted_pairs(jax.random.key(0), 60, 4, modalities=("text",))
    >>> choice = choose_map(planted.pairs, families=[Orthogonal(keep="all")])
    >>> choice.candidate.describe()
    'orthogonal map fitted on text, scale energy, target mean added'
    """
    given = as_anchors("choose_map", anchors).on_host()
    named = [name for name, rows in given.rows.items() if rows.ids is not None]
    asked = _default_jobs(given, named) if jobs is None else list(jobs)
    order = _default_fits(given) if fit_on is None else fit_on
    for name, value in (
        ("folds", folds),
        ("index_size", index_size),
        ("most_held_out", most_held_out),
    ):
        check_count("choose_map", name, value, least=2)
    _check(given, named, asked, families, uses, order)
    # What is listed twice is tried once.
    families, uses = list(dict.fromkeys(families)), list(dict.fromkeys(uses))
    order = list(dict.fromkeys(order))
    numbered = _numbered(given)
    names = sorted({name for job in asked for name in (job.query, job.index)})
    rows = [numbered.rows[name] for name in names]
    fewest = min(map(len, given.rows.values()))
    held = min(len(np.unique(one.known("groups"))) for one in rows)
    things = min(len(np.unique(one.known("ids"))) for one in rows)
    options = {"source_space": source_space, "target_space": target_space}
    if fewest < FEWEST_ANCHORS or held < FEWEST_GROUPS or things < FEWEST_THINGS:
        what = f"{things} things" if held >= FEWEST_GROUPS else f"{held} groups"
        what = f"{fewest} anchors" if fewest < FEWEST_ANCHORS else what
        candidate = Candidate(Orthogonal(), order[0], "energy", Use())
        reason = (
            f"{what[0].upper()}{what[1:]} are too few to hold any out, so nothing was "
            f"compared: {candidate.describe()}, which is right most often."
        )
        return _finish(given, candidate, reason, (), card, options)
    count = fold_count(folds, things)
    fits = FoldFits(numbered, count=count, most=most_held_out)
    found = _try_all(fits, asked, families, uses, order, index_size)
    table = tabulate(found, asked)
    candidate = min(
        (row.candidate for row in table if row.behind <= row.standard_error),
        key=lambda one: cost(one, order),
    )
    reason = explain(candidate, table, index_size)
    return _finish(given, candidate, reason, table, card, options)


def fold_count(folds: int, things: int) -> int:
    """Number of folds that each hold two things: one held out alone has no rival."""
    return min(int(folds), max(2, things // 2))


def _try_all(
    fits: FoldFits,
    jobs: Sequence[Job],
    families: Sequence[Family],
    uses: Sequence[Use],
    order: Sequence[Modality],
    index_size: int,
) -> dict[Candidate, HeldOut]:
    """Fit every family on every fold but one, and use it in every way on that one."""
    found: dict[Candidate, list[list[Standing | None]]] = {}
    searches = [FoldSearch(fold, jobs) for fold in fits.folds]
    for family in families:
        if family.holds_out and fits.smallest < _FEWEST_TO_TUNE:
            continue
        for fit_on in order:
            maps = fits.fit(family, fit_on)
            whole = family.keeping_all
            # Where the anchors determine all directions, the part is the whole.
            if whole != family and whole in families and all(map(_keeps_all, maps)):
                continue
            for search, amap in zip(searches, maps, strict=True):
                for used, ways in _ways(amap, family, fit_on, uses):
                    scored = search.score(used, [way.use for way in ways])
                    for way, of_jobs in zip(ways, scored, strict=True):
                        found.setdefault(way, []).append(of_jobs)
    if not found:
        raise ArgumentError(
            "choose_map(families=...)",
            f"a family that so few anchors can fit, {fits.smallest} in a fold",
            [family.describe() for family in families],
            "leave it out for the default",
        )
    groups = [
        np.concatenate(
            [
                fold.held.rows[job.query].known("groups")[fold.asked(job)]
                for fold in fits.folds
            ]
        )
        for job in jobs
    ]
    if not all(map(len, groups)):
        raise ArgumentError(
            "choose_map(anchors=Anchors(ids=...))",
            "some held-out row of each job to have its own among the others",
            "none",
            "the ids of modalities must be the same labels",
        )
    return {
        candidate: join_folds(parts, groups, index_size)
        for candidate, parts in found.items()
        if len(parts) == len(fits.folds)
    }


def _ways(amap: AlignmentMap, family: Family, fit_on: Modality, uses: Sequence[Use]):
    """Yield a map with the uses that share its prepared rows, and with scale 1."""
    scales: list[Scale] = [family.default_scale]
    if family.default_scale == "energy":
        scales.append("none")
    for scale in scales:
        used = amap
        if scale == "none":
            ones = {name: s / s for name, s in amap.numbers.scales.items()}
            used = dataclasses.replace(
                amap, numbers=dataclasses.replace(amap.numbers, scales=ones)
            )
        alike: dict[tuple, list[Candidate]] = {}
        for use in uses:
            # Without the target mean no score feels the scale, and for a map that
            # keeps all directions both norms are one.
            unscaled = scale != scales[0] and use.centre != "none"
            twin = dataclasses.replace(use, divide="whole")
            same = use != twin and twin in uses and not keeps_part(amap)
            if not unscaled and not same:
                way = Candidate(family, fit_on, scale, use)
                alike.setdefault((use.centre, use.divide), []).append(way)
        for ways in alike.values():
            yield used, ways


def _keeps_all(amap: AlignmentMap) -> bool:
    """Whether a (partial) isometry keeps all directions of a source no wider."""
    # The squared norm of a partial isometry is its rank.
    rank = np.sum(np.square(np.asarray(amap.matrix, np.float64)))
    return bool(rank > amap.d_source - 0.5)


def _finish(anchors, candidate, reason, table, card, options) -> MapChoice:
    """Fit the chosen candidate on all anchors."""
    notes = {**(card or {}), "candidate": candidate.to_json(), "choice": reason}
    amap = fit_map(
        anchors,
        candidate.family,
        fit_on=candidate.fit_on,
        scale=candidate.scale,
        card=notes,
        **options,
    )
    return MapChoice(
        amap, candidate.use, anchors, candidate=candidate, reason=reason, table=table
    )


def _default_jobs(anchors: Anchors, named: Sequence[Modality]) -> list[Job]:
    """Each modality with itself, and with the others where things are named."""
    jobs = [Job(name, name) for name in anchors.modalities]
    return jobs + [Job(one, two) for one in named for two in named if one != two]


def _default_fits(anchors: Anchors) -> list[Modality]:
    """Images before the others, then all of them."""
    names = sorted(anchors.modalities, key=lambda name: name != "image")
    return [*names, ALL] if len(names) > 1 else names


def _numbered(anchors: Anchors) -> Anchors:
    """The same anchors with ids and groups as numbers, alike in all modalities."""

    def numbers(labels: dict[Modality, Any]) -> dict[Modality, np.ndarray]:
        given = [values for values in labels.values() if values is not None]
        names = np.unique(np.concatenate(given)) if given else np.zeros(0)
        return {
            # Row i of several modalities may show one thing, so it is held out once.
            name: len(names) + np.arange(len(anchors.rows[name]))
            if values is None
            else np.searchsorted(names, values)
            for name, values in labels.items()
        }

    ids = numbers({name: rows.ids for name, rows in anchors.rows.items()})
    groups = numbers({name: rows.labels for name, rows in anchors.rows.items()})
    return anchors.with_labels(ids=ids, groups=groups)


def _check(anchors, named, jobs, families, uses, order) -> None:
    """Raise for options that leave nothing to choose among, or nothing to ask."""
    for name, given, kind in (
        ("jobs", jobs, Job),
        ("families", families, Family),
        ("uses", uses, Use),
        ("fit_on", order, str),
    ):
        listed = isinstance(given, Sequence) and not isinstance(given, str)
        if not listed or not given or not all(isinstance(one, kind) for one in given):
            raise ArgumentError(
                f"choose_map({name}={given!r})",
                f"a list of one or more {kind.__name__}",
                remedy="leave it out for the default",
            )
    if isinstance(order, str) or not set(order) <= {*anchors.modalities, ALL}:
        raise ArgumentError(
            f"choose_map(fit_on={order!r})",
            f"some of {(*sorted(anchors.modalities), ALL)}",
            remedy="leave it out for the default",
        )
    for job in jobs:
        missing = {job.query, job.index} - set(anchors.modalities)
        if missing:
            raise ArgumentError(
                f"choose_map(jobs=[{job}])",
                f"modalities of {sorted(anchors.modalities)}",
                sorted(missing),
                "add pairs of that modality",
            )
        if job.query != job.index and not {job.query, job.index} <= set(named):
            raise ArgumentError(
                f"choose_map(jobs=[{job}])",
                f"ids of {job.query!r} and {job.index!r}, which say which row answers "
                "which",
                remedy="pass Anchors(pairs, ids={'image': ..., 'text': ...}), such as "
                "row numbers",
            )
