# SPDX-License-Identifier: Apache-2.0
"""`fit_groups`: a map of each of many subsets of groups, from one pass over rows.

What folds, sweeps over classes and bootstraps fit by: groups are summed anew, rows are
never read again, and the solves of many subsets run in one program.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Shaped

from jaxalign.anchors.anchors import check_names, check_spaces
from jaxalign.array_types import ArrayLike, Modality
from jaxalign.buckets import bucket_size
from jaxalign.errors import ArgumentError
from jaxalign.families.family import Family, need_rows
from jaxalign.families.orthogonal import Orthogonal
from jaxalign.families.scorer import ScorerFamily
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.assemble import (
    Provenance,
    check_card,
    check_spread,
    facts_of,
    make_map,
    measure,
    settled,
    settled_scorer,
    small_parts,
)
from jaxalign.maps.options import (
    as_moments,
    check_family,
    check_grams,
    check_moments,
    check_scorer,
    weights_of,
)
from jaxalign.moments import Moments, merge_moments, reduce_groups
from jaxalign.moments.merging import weigh_moments
from jaxalign.moments.pooling import pool_modalities
from jaxalign.solve.scale import Scale

# Subsets that are solved at once: enough for one program, few d x d matrices.
_AT_ONCE = 32


def fit_groups(
    moments: Mapping[Modality, Moments] | Moments,
    subsets: Shaped[ArrayLike, "s g"],
    family: Family = Orthogonal(),  # noqa: B008 (frozen)
    *,
    scorer: ScorerFamily | None = None,
    fit_on: Modality | Mapping[Modality, float] | None = None,
    scale: Scale | None = None,
    source_space: str | None = None,
    target_space: str | None = None,
    card: Mapping[str, Any] | None = None,
) -> list[AlignmentMap]:
    """Fit a map on each of many subsets of groups, without another pass over rows.

    Args:
      moments: by modality, with one leading axis of groups, the same in all (such as
        classes, or folds). With Grams as `fit_map` asks for them.
      subsets: ``(s, G)`` weights of the groups in each subset, see `reduce_groups`.
      family: that needs no rows, as of `fit_map`. A strength that is left out is chosen
        for each subset by holding out its groups one at a time (`choose_ridge`).
      scorer: as of `fit_map`.
      fit_on: as of `fit_map`.
      scale: as of `fit_map`.
      source_space: as of `fit_map`.
      target_space: as of `fit_map`.
      card: as of `fit_map`, the same for all.

    Returns:
      A map for each subset, in order: up to rounding what `fit_map` gives of its rows,
      where no strength is chosen.

    Raises:
      ValueError: for moments without groups or Grams that the fit takes, subsets of
        another shape, a subset without spread, or of one group where a strength is to
        be chosen, or options that do not exist.

    Notes:
      Subsets are solved in batches of 32, so that few d x d matrices are in memory:
      O(s G d_source d_target + s d^3) in all, and a chosen strength one O(d_source^3) a
      subset and group. A batch is read from the device three times.

    >>> import jaxalign as ja
    >>> rows = np.eye(4, 2, dtype=np.float32)
    >>> empty = ja.moments.init_moments(2, 2, groups=2)
    >>> group = np.array([0, 1, 0, 1])
    >>> moments = ja.moments.update_moments(empty, rows, -rows, group=group)
    >>> maps = fit_groups(moments, np.array([[1, 1], [2, 1]]))
    >>> [amap.card["fit"]["modalities"]["rows"]["anchors"] for amap in maps]
    [4, 4]
    """
    call = "fit_groups"
    chosen = check_family(call, family, scale)
    check_scorer(call, scorer)
    if family.needs == "rows":
        raise need_rows(call, family)
    check_spaces(call, source_space, target_space)
    parts = as_moments(call, moments)
    if parts is None:
        raise ArgumentError(
            f"{call}(moments=...)",
            "Moments with groups",
            type(moments).__name__,
            "accumulate them with `groups=`",
        )
    check_names(call, "moments", parts, remedy="pass {'image': moments}")
    check_moments(call, parts, family, scorer, grouped=True)
    fit_on, weights = weights_of(call, parts, fit_on)
    wanted = _check_subsets(call, parts, subsets)
    about = Provenance(
        family,
        fit_on,
        chosen,
        scorer,
        source_space=source_space,
        target_space=target_space,
        card=check_card(call, card),
    )
    if not family.tuned:
        _check_tunable(call, wanted)
    maps: list[AlignmentMap] = []
    at_once = min(_AT_ONCE, len(wanted))
    for start in range(0, len(wanted), at_once):
        some = wanted[start : start + at_once]
        # The last batch is filled up, so that one program serves all.
        filled = np.concatenate([some, np.repeat(some[-1:], at_once - len(some), 0)])
        reduced = {name: reduce_groups(one, filled) for name, one in parts.items()}
        pooled = pool_modalities(reduced, weights)
        if family.tuned:
            maps += _fit_batch(call, reduced, pooled, about, weights, len(some))
            continue
        for place, subset in enumerate(some):
            own = {name: _entry(one, place) for name, one in reduced.items()}
            tuned = family.tune(_folds(parts, own, weights, subset))
            alone = jax.tree.map(lambda leaf: leaf[None], own)
            told = about._replace(family=tuned)
            pooled = pool_modalities(alone, weights)
            maps += _fit_batch(call, alone, pooled, told, weights, 1)
    return maps


def _fit_batch(
    call: str,
    moments: Mapping[Modality, Moments],
    pooled: Moments,
    about: Provenance,
    fitted: Collection[Modality],
    count: int,
) -> list[AlignmentMap]:
    """Solve and measure a batch, and make maps of the first `count`."""
    solved = about.family.solve(pooled)
    facts = facts_of(solved)
    solved = settled(call, solved, {**facts, "status": facts["status"][:count]})
    check_grams(call, moments, solved, facts["kept"], about.scale, fitted)
    measured = jax.device_get(measure(moments, solved, scale=about.scale))
    small = small_parts(moments)
    scorer = None if about.scorer is None else about.scorer.solve(pooled)
    host, scorers, of_rows = jax.device_get((solved, scorer, pooled.rows))
    maps = []
    for place in range(count):

        def entry(tree, place=place):
            return jax.tree.map(lambda leaf: np.asarray(leaf[place]), tree)

        own = {name: entry(part) for name, part in small.items()}
        for name, part in own.items():
            check_spread(call, "moments", name, part)
        one = entry(facts)
        of_search = settled_scorer(call, entry(scorers), int(of_rows[place]))
        solution = settled(call, entry(host), one)
        maps.append(
            make_map(call, own, solution, one, entry(measured), about, of_search)
        )
    return maps


@jax.jit
def _entry(tree, index):
    """Take one entry of the leading axis of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _folds(moments, whole, weights, subset) -> Moments:
    """Groups of one subset, pooled over modalities, to hold out one at a time."""
    taken = np.flatnonzero(subset)
    # Filled up with a group of no weight: few programs for any number of groups.
    filled = np.full(bucket_size(len(taken)), taken[0])
    filled[: len(taken)] = taken
    of_groups = np.zeros(len(filled), subset.dtype)
    of_groups[: len(taken)] = subset[taken]
    return _pool_groups(
        {name: moments[name] for name in weights},
        {name: whole[name] for name in weights},
        {name: weight * of_groups for name, weight in weights.items()},
        filled,
    )


@jax.jit
def _pool_groups(moments, whole, weights, taken):
    """Pool the modalities of some groups, each about the subset's own mean.

    Groups keep their places about that mean, instead of each about its own: what lies
    between groups is signal, the gap between modalities is not.
    """

    def about_mean(name):
        groups = jax.tree.map(lambda leaf: leaf[taken], moments[name])
        moved = dataclasses.replace(
            groups,
            source_mean=groups.source_mean - whole[name].source_mean[None, :],
            target_mean=groups.target_mean - whole[name].target_mean[None, :],
        )
        return weigh_moments(moved, weights[name])

    return functools.reduce(merge_moments, map(about_mean, weights))


def _check_subsets(call, moments, subsets) -> np.ndarray:
    """Bring subsets to the host; raise for shapes that do not fit."""
    weights = np.asarray(subsets)
    total = {part.count.shape for part in moments.values()}
    if len(total) > 1 or any(len(shape) != 1 for shape in total):
        raise ArgumentError(
            f"{call}(moments=...)",
            "one leading axis of groups, the same in all modalities",
            sorted(total),
            "number groups alike in all",
        )
    ((count,),) = total
    numbers = weights.dtype.kind in "biuf"
    if not weights.size or weights.shape[1:] != (count,) or not numbers:
        raise ArgumentError(
            f"{call}(subsets=...)",
            f"weights of shape (s, {count}), one subset or more",
            f"{weights.dtype} of shape {weights.shape}",
            "give a row for each subset, with one weight for each group",
        )
    weights = weights.astype(jax.dtypes.canonicalize_dtype(float))
    if not np.all(np.isfinite(weights) & (weights >= 0)):
        raise ArgumentError(
            f"{call}(subsets=...)",
            "finite weights of at least 0",
            "others",
            "0 leaves a group out",
        )
    return weights


def _check_tunable(call, weights) -> None:
    """Raise for a subset in which nothing can be held out."""
    fewest = min(np.count_nonzero(weights, axis=1), default=2)
    if fewest < 2:
        raise ArgumentError(
            f"{call}(family=...)",
            "at least 2 groups a subset to choose a strength on",
            fewest,
            "pass one, such as Ridge(0.1)",
        )
