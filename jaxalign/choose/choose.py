# SPDX-License-Identifier: Apache-2.0
"""`choose_map`: the family, the fit and the recipe that do best on held-out anchors.

No family of maps wins everywhere, and how a map is used decides as much as which it is.
So all are tried on anchors that they were not fitted on, by the search that they are
for; of those that do about as well as the best, the simplest is taken.
"""

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.evaluate.fold_fits import FoldFits
from jaxalign.evaluate.held_out import (
    FoldSearch,
    HeldOut,
    Job,
    asked_rows,
    join_folds,
)
from jaxalign.evaluate.intervals import Interval
from jaxalign.evaluate.recipes import Recipe, Searcher
from jaxalign.evaluate.standing import Standing
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.anchor_rows import check_pairs
from jaxalign.maps.checks import ALL, FIT_KINDS
from jaxalign.maps.fit import Kind

FEWEST_ANCHORS, FEWEST_GROUPS, FEWEST_THINGS = 10, 3, 4
# Folds that `fit_map` chooses a ridge or stops an MLP by ask for so many anchors.
_FEWEST_TO_TUNE = 10


@dataclasses.dataclass(frozen=True)
class CandidateScore:
    """How one recipe did on held-out anchors.

    Attributes:
      recipe: the recipe.
      score: pooled top-1 (`pooled_top1`), the mean over jobs.
      interval: 95 % interval of it, over groups.
      top1: exact top-1 among the rows of a fold, by job.
      behind: how far behind the best candidate.
      standard_error: of `behind`, over groups.
    """

    recipe: Recipe
    score: float
    interval: Interval
    top1: dict[str, float]
    behind: float
    standard_error: float


@dataclasses.dataclass(frozen=True)
class MapChoice:
    """The map to use, how to use it, and why.

    Attributes:
      searcher: the map fitted on all anchors, with its recipe and the anchors.
      reason: why, in one sentence.
      table: all candidates, best first; empty where there were too few anchors.
    """

    searcher: Searcher
    reason: str
    table: tuple[CandidateScore, ...]

    @property
    def map(self) -> AlignmentMap:
        """The map, fitted on all anchors; its card holds the recipe and the reason."""
        return self.searcher.amap

    @property
    def recipe(self) -> Recipe:
        """How the map was fitted, and is to be used."""
        return self.searcher.recipe


def choose_map(
    pairs: Mapping[Modality, tuple[ArrayLike, ArrayLike]],
    *,
    groups: Mapping[Modality, ArrayLike] | None = None,
    ids: Mapping[Modality, ArrayLike] | None = None,
    jobs: Sequence[Job] | None = None,
    kinds: Sequence[Kind] = ("orthogonal", "linear"),
    fit_on: Sequence[Modality] | None = None,
    hubness_k: int = 5,
    index_size: int = 1000,
    folds: int = 5,
    most_held_out: int = 1000,
    source_space: str | None = None,
    target_space: str | None = None,
    card: Mapping[str, Any] | None = None,
) -> MapChoice:
    """Choose family, scale, fit modality and recipe on held-out anchors.

    Every candidate is fitted on all folds but one, and asked to find the rows of that
    one among each other. What counts is top-1 against `index_size` rivals, drawn from
    those of all held-out queries (`pooled_top1`): exact top-1 among the few rows of a
    fold is often 100 % for candidates that differ much in a large index. The best mean
    over jobs sets the mark; taken is the simplest candidate that is behind by no more
    than one standard error of the difference, and it is fitted again on all anchors.
    Simpler is, in this order: a rotation before ridge before an MLP, no
    offsets before offsets, an index left as it is before a centred one, one modality
    before all, the whole rotation before a part, the target mean added before not.

    Args:
      pairs: as of `fit_map`.
      groups: by modality, ``(n,)`` labels of what is held out together, such as
        classes. Default: `ids`.
      ids: by modality, ``(n,)`` labels of what a row shows, the same in all modalities:
        rows of one id answer each other, and are no rivals. Default: each row is its
        own thing, and modalities are not compared.
      jobs: the searches that the map is for. Default: each modality with itself, and
        with `ids` each with the others, source queries in target rows.
      kinds: families to try; add "mlp" for the perceptron, which takes longest.
      fit_on: modalities to fit on; default each of `pairs`, and "all" of several.
      hubness_k: anchors that offsets average over; 0 tries none.
      index_size: rivals and the right row, 1000 or the size of your index if less; at
        least 2.
      folds: at least 2; fewer are cut where a fold would hold less than two things.
      most_held_out: rows of a modality that are asked for in a fold, at most; at least
        2.
      source_space: as of `fit_map`.
      target_space: as of `fit_map`.
      card: as of `fit_map`; "recipe" and "choice" are written beside it.

    Returns:
      The choice. With fewer than 10 anchors of a modality, 3 groups, or 4 things to
      find, nothing can be held out: it is then the identified part of the rotation
      without the target mean, the recipe that is right most often, with an empty table.

    Raises:
      ValueError: for what `fit_map` refuses, an unknown modality in a job, a job
        between modalities without `ids`, fewer than 2 folds, or nothing to try.

    Notes:
      Deterministic. The score of the best of many candidates is a little too good: ask
      rows that nothing was chosen on for what to expect. Cost: one pass over the
      anchors, whose moments the fits of all folds share, folds times modalities times
      kinds solves of O(d^3) (ridges take five each, an MLP its own passes), and folds
      times candidates times jobs searches among `most_held_out` rows.

    >>> import jax
    >>> from jaxalign.data.planted import planted_pairs
    >>> planted = planted_pairs(jax.random.key(0), 60, 4, modalities=("text",))
    >>> choose_map(planted.pairs, kinds=["orthogonal"]).recipe.describe()
    'orthogonal map fitted on text, target mean added, scale energy'
    """
    hosts = check_pairs("choose_map", pairs)
    asked = _default_jobs(hosts, ids) if jobs is None else list(jobs)
    order = _default_fits(hosts) if fit_on is None else fit_on
    _check_numbers(folds, index_size, most_held_out)
    _check(hosts, ids, asked, kinds, order)
    of_ids = _numbered(hosts, ids)
    # What is held out together to choose a recipe is so to choose its ridge.
    labels = ids if groups is None else groups
    of_groups = of_ids if groups is None else _numbered(hosts, groups)
    fixed = {"source_space": source_space, "target_space": target_space}
    names = sorted({name for job in asked for name in (job.query, job.index)})
    fewest = min(len(hosts[name][0]) for name in hosts)
    held = min(len(np.unique(of_groups[name])) for name in names)
    things = min(len(np.unique(of_ids[name])) for name in names)
    if fewest < FEWEST_ANCHORS or held < FEWEST_GROUPS or things < FEWEST_THINGS:
        what = f"{things} things" if held >= FEWEST_GROUPS else f"{held} groups"
        what = f"{fewest} anchors" if fewest < FEWEST_ANCHORS else what
        recipe = Recipe(fit_on=order[0], identified_only=True, add_target_mean=False)
        reason = (
            f"{what[0].upper()}{what[1:]} are too few to hold any out, so nothing was "
            f"compared: {recipe.describe()}, which is right most often."
        )
        return _finish(hosts, labels, recipe, reason, (), fixed, card)
    count = fold_count(folds, things)
    fits = FoldFits(hosts, of_ids, of_groups, count=count, most=most_held_out)
    found = _try_all(fits, asked, kinds, order, hubness_k, index_size)
    table = _tabulate(found, asked)
    recipe = min(
        (row.recipe for row in table if row.behind <= row.standard_error),
        key=lambda recipe: _cost(recipe, order),
    )
    reason = _explain(recipe, table, index_size)
    return _finish(hosts, labels, recipe, reason, table, fixed, card)


def fold_count(folds: int, things: int) -> int:
    """Number of folds that each hold two things: one held out alone has no rival."""
    return min(int(folds), max(2, things // 2))


def _try_all(
    fits: FoldFits,
    jobs: Sequence[Job],
    kinds: Sequence[Kind],
    order: Sequence[Modality],
    hubness_k: int,
    index_size: int,
) -> dict[Recipe, HeldOut]:
    """Fit every family on every fold but one, and use it in every way on that one."""
    found: dict[Recipe, list[list[Standing | None]]] = {}
    searches = [FoldSearch(fold, jobs) for fold in fits.folds]
    for kind in kinds:
        if kind != "orthogonal" and fits.smallest < _FEWEST_TO_TUNE:
            continue
        for name in order:
            for recipe, maps in fits.fit(kind, name):
                for search, amap in zip(searches, maps, strict=True):
                    for used, ways in _uses(amap, recipe, hubness_k):
                        scored = search.score(used, ways)
                        for way, of_jobs in zip(ways, scored, strict=True):
                            found.setdefault(way, []).append(of_jobs)
    groups = [
        np.concatenate(
            [fold.held_groups[job.query][asked_rows(fold, job)] for fold in fits.folds]
        )
        for job in jobs
    ]
    if not all(map(len, groups)):
        raise ValueError(
            "`choose_map(ids=...)`: expected some held-out row of each job to have its "
            "own among the others, got none; the ids of modalities must be the same "
            "labels."
        )
    return {
        recipe: join_folds(parts, groups, index_size) for recipe, parts in found.items()
    }


def _uses(amap: AlignmentMap, recipe: Recipe, hubness_k: int):
    """Yield every way to use a map: with its scale, or 1, or no mean, or centred."""
    plain = [(amap, recipe)]
    if recipe.kind == "orthogonal":
        ones = {name: scale / scale for name, scale in amap.scales.items()}
        unscaled = dataclasses.replace(recipe, scale="none")
        plain.append((dataclasses.replace(amap, scales=ones), unscaled))
    bare = dataclasses.replace(recipe, add_target_mean=False)
    plain += [(amap, bare), (amap, dataclasses.replace(bare, centre_target=True))]
    for used, way in plain:
        ways = [way]
        if hubness_k:
            ways.append(dataclasses.replace(way, hubness_k=hubness_k))
        yield used, ways


def _tabulate(
    found: dict[Recipe, HeldOut], jobs: Sequence[Job]
) -> tuple[CandidateScore, ...]:
    """Order candidates by score, each beside the best."""
    best = max(found.values(), key=lambda held: held.score)
    rows = []
    for recipe, held in found.items():
        spread = 1.96 * held.standard_error()
        rows.append(
            CandidateScore(
                recipe=recipe,
                score=held.score,
                interval=(max(0.0, held.score - spread), min(1.0, held.score + spread)),
                top1={
                    job.describe(): float(hits.mean())
                    for job, hits in zip(jobs, held.hits, strict=True)
                },
                behind=best.score - held.score,
                standard_error=best.standard_error(held),
            )
        )
    return tuple(sorted(rows, key=lambda row: -row.score))


def _cost(recipe: Recipe, order: Sequence[Modality]) -> tuple:
    """What is given up for a recipe, the dearest first."""
    return (
        ("orthogonal", "mean_only", "linear", "mlp").index(recipe.kind),
        recipe.hubness_k > 0,
        recipe.centre_target,
        list(order).index(recipe.fit_on),
        recipe.identified_only,
        not recipe.add_target_mean,
        recipe.scale == "none",
    )


def _explain(recipe: Recipe, table: Sequence[CandidateScore], index_size: int) -> str:
    """Say in one sentence what was taken, and against what."""
    chosen = next(row for row in table if row.recipe == recipe)
    exact = ", ".join(f"{job} {_percent(top1)}" for job, top1 in chosen.top1.items())
    why = f"the best of {len(table)} candidates"
    if table[0].recipe != recipe:
        why = (
            f"the simplest of {len(table)} candidates within one standard error of the "
            f"best ({table[0].recipe.describe()}: {_percent(table[0].score)})"
        )
    plain = Recipe(fit_on=recipe.fit_on)
    beside = "".join(
        f", against {_percent(row.score)} for the rotation used plainly"
        for row in table
        if row.recipe == plain != recipe
    )
    return (
        f"Taken is the {recipe.describe()}: anchors held out beat {index_size - 1} "
        f"rivals drawn from all of theirs in {_percent(chosen.score)} of cases{beside} "
        f"(exact top-1 among those held out: {exact}); it is {why}."
    )


def _percent(share: float) -> str:
    """Write a share in percent."""
    return f"{100 * share:.1f} %"


def _finish(hosts, groups, recipe, reason, table, fixed, card) -> MapChoice:
    """Fit the chosen recipe on all anchors."""
    notes = {**(card or {}), "recipe": recipe.to_json(), "choice": reason}
    amap = recipe.fit(hosts, groups=groups, card=notes, **fixed)
    return MapChoice(Searcher(amap, recipe, hosts), reason, tuple(table))


def _default_jobs(hosts, ids) -> list[Job]:
    """Each modality with itself, and with the others where things are named."""
    named = [name for name in hosts if name in (ids or {})]
    jobs = [Job(name, name) for name in hosts]
    return jobs + [Job(one, two) for one in named for two in named if one != two]


def _default_fits(hosts) -> list[Modality]:
    """Images before the others, then all of them."""
    names = sorted(hosts, key=lambda name: name != "image")
    return [*names, ALL] if len(names) > 1 else names


def _numbered(hosts, labels) -> dict[Modality, np.ndarray]:
    """Labels as numbers, the same in all modalities; a row without one is its own."""
    given = {name: np.asarray(values) for name, values in (labels or {}).items()}
    for name, values in given.items():
        shaped = name in hosts and values.shape == hosts[name][0].shape[:1]
        if not shaped or values.dtype.kind not in "biuUS":
            raise ValueError(
                f"`choose_map(groups, ids)`: expected one label a row by modality, of "
                f"{sorted(hosts)}, whole numbers or strings, got {values.dtype} of "
                f"shape {values.shape} for {name!r}; pass {{'image': labels}}."
            )
    names = np.unique(np.concatenate(list(given.values()))) if given else np.zeros(0)
    numbers, start = {}, len(names)
    for name, (source, _) in hosts.items():
        if name in given:
            numbers[name] = np.searchsorted(names, given[name])
        else:
            # Row i of several modalities may show one thing, so it is held out once.
            numbers[name] = start + np.arange(len(source))
    return numbers


def _check_numbers(folds, index_size, most_held_out) -> None:
    """Refuse numbers that leave nothing to hold out, or no rival."""
    for name, value in (
        ("folds", folds),
        ("index_size", index_size),
        ("most_held_out", most_held_out),
    ):
        if not isinstance(value, numbers.Integral) or value < 2:
            raise ValueError(
                f"`choose_map({name}={value!r})`: expected a whole number of at least "
                "2; leave it out for the default."
            )


def _check(hosts, ids, jobs, kinds, order) -> None:
    """Refuse options that leave nothing to choose among, or nothing to ask."""
    if not jobs or not kinds or not order:
        raise ValueError(
            f"`choose_map(jobs, kinds, fit_on)`: expected one or more of each, got "
            f"{len(jobs)}, {len(kinds)} and {len(order)}; leave them out for the "
            "default."
        )
    for name, given, known in (
        ("kinds", kinds, FIT_KINDS),
        ("fit_on", order, (*sorted(hosts), ALL)),
    ):
        if isinstance(given, str) or not set(given) <= set(known):
            raise ValueError(
                f"`choose_map({name}={given!r})`: expected a list of {known}; leave it "
                "out for the default."
            )
    for job in jobs:
        missing = {job.query, job.index} - set(hosts)
        if missing:
            raise ValueError(
                f"`choose_map(jobs=[{job}])`: expected modalities of {sorted(hosts)}, "
                f"got {sorted(missing)}; add pairs of that modality."
            )
        if job.query != job.index and not {job.query, job.index} <= set(ids or {}):
            raise ValueError(
                f"`choose_map(jobs=[{job}])`: expected ids of {job.query!r} and "
                f"{job.index!r}, which say which row answers which; pass "
                "ids={'image': ..., 'text': ...}, such as row numbers."
            )
