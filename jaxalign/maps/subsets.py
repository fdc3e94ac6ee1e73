# SPDX-License-Identifier: Apache-2.0
"""`maps_of_subsets`: a map of each of many subsets of groups, from one pass over rows.

What folds, sweeps over classes and bootstraps fit by: groups are summed anew, rows are
never read again, and the solves of many subsets run in one program.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.buckets import bucket_size
from jaxalign.maps import checks
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.anchor_moments import pool_weighted
from jaxalign.maps.assemble import (
    Fitted,
    check_moments,
    check_spread,
    map_of_moments,
    solve_batch,
    solve_rotation,
)
from jaxalign.maps.from_moments import MOMENTS_KINDS, MomentsKind, solve_ridge
from jaxalign.moments import Moments, merge_moments, reduce_groups
from jaxalign.moments.merging import weigh_moments
from jaxalign.solve.ridge_choice import choose_ridge
from jaxalign.solve.scale import ORTHOGONAL_SCALE, Scale

# Subsets that are solved at once: enough for one program, few d x d matrices.
_AT_ONCE = 32


def maps_of_subsets(
    moments: Mapping[Modality, Moments],
    subsets: Shaped[ArrayLike, "s g"],
    *,
    fit_on: Modality | None = None,
    scale: Scale | None = None,
    kind: MomentsKind = "orthogonal",
    ridge: float | None = None,
    proper: bool = False,
    identified_only: bool = False,
    rank: int | None = None,
    modality_weights: Mapping[Modality, float] | None = None,
    source_space: str | None = None,
    target_space: str | None = None,
    card: Mapping[str, Any] | None = None,
) -> list[AlignmentMap]:
    """Fit a map on each of many subsets of groups, without another pass over rows.

    Args:
      moments: by modality, with one leading axis of groups, the same in all (such as
        classes, or folds). With Grams as `map_from_moments` asks for them.
      subsets: ``(s, G)`` weights of the groups in each subset, see `reduce_groups`.
      fit_on: as of `fit_map`.
      scale: as of `fit_map`; without Grams see `map_from_moments`.
      kind: as of `map_from_moments`.
      ridge: of linear maps, positive, relative as in `solve_linear`. Default: chosen
        for each subset by holding out its groups one at a time (`choose_ridge`).
      proper: as of `fit_map`.
      identified_only: as of `fit_map`.
      rank: as of `fit_map`.
      modality_weights: as of `fit_map`.
      source_space: as of `fit_map`.
      target_space: as of `fit_map`.
      card: as of `fit_map`, the same for all.

    Returns:
      A map for each subset, in order: up to rounding what `fit_map` gives of its rows,
      where no ridge is chosen.

    Raises:
      ValueError: for moments without groups or Grams that the fit takes, subsets of
        another shape, a subset without spread, or of one group where a ridge is to be
        chosen, or options that do not exist or do not go together.

    Notes:
      Subsets are solved in batches of 32, so that few d x d matrices are in memory:
      O(s G d_source d_target + s d^3) in all, and a chosen ridge one O(d_source^3) a
      subset and group.

    >>> import jaxalign as ja
    >>> rows = np.eye(4, 2, dtype=np.float32)
    >>> empty = ja.init_moments(2, 2, groups=2)
    >>> moments = ja.update_moments(empty, rows, -rows, group=np.array([0, 1, 0, 1]))
    >>> maps = maps_of_subsets({"image": moments}, np.array([[1, 1], [2, 1]]))
    >>> [amap.card["fit"]["modalities"]["image"]["anchors"] for amap in maps]
    [4, 4]
    """
    call = "maps_of_subsets"
    partial = identified_only or rank is not None
    check_moments(call, moments, grouped=True, kind=kind, partial=partial)
    fit_on = checks.default_fit_on(call, moments, fit_on)
    checks.check_options(
        call,
        moments,
        fit_on=fit_on,
        scale=scale,
        kind=kind,
        ridge=ridge,
        proper=proper,
        identified_only=identified_only,
        rank=rank,
        kinds=MOMENTS_KINDS,
    )
    checks.check_spaces(call, source_space, target_space)
    fitted_on = checks.check_modality_weights(call, modality_weights, moments, fit_on)
    first = next(iter(moments.values()))
    checks.check_widths(call, kind, first.d_source, first.d_target)
    weights = _check_subsets(call, moments, subsets, kind, ridge)
    chosen: Scale = scale or (ORTHOGONAL_SCALE if kind == "orthogonal" else "none")
    maps = []
    at_once = min(_AT_ONCE, len(weights))
    for start in range(0, len(weights), at_once):
        part = weights[start : start + at_once]
        # The last batch is filled up, so that one program serves all.
        filled = np.concatenate([part, np.repeat(part[-1:], at_once - len(part), 0)])
        reduced = {name: reduce_groups(one, filled) for name, one in moments.items()}
        pooled = pool_weighted(reduced, fitted_on)
        solutions = None
        if kind == "orthogonal":
            solutions = solve_batch(pooled, proper=proper, partial=partial)
        for index, subset in enumerate(part):
            own = {name: _entry(one, index) for name, one in reduced.items()}
            for name, one in own.items():
                check_spread(f"{call}(moments=...)", name, one)
            if kind == "orthogonal":
                fitted = solve_rotation(
                    _entry(pooled, index),
                    proper=proper,
                    partial=partial,
                    rank=rank,
                    solution=_entry(solutions, index),
                )
            elif kind == "linear":
                strength = ridge
                if strength is None:
                    strength = _choose(moments, own, fitted_on, subset)
                fitted = solve_ridge(_entry(pooled, index), strength)
            else:
                same = jnp.eye(pooled.d_source, dtype=pooled.count.dtype)
                fitted = Fitted(same, {}, kind)
            maps.append(
                map_of_moments(
                    call,
                    own,
                    fitted,
                    fit_on=fit_on,
                    scale=chosen,
                    notes=(
                        {}
                        if modality_weights is None
                        else {"modality_weights": fitted_on}
                    ),
                    source_space=source_space,
                    target_space=target_space,
                    card=card,
                )
            )
    return maps


@jax.jit
def _entry(tree, index):
    """Take one entry of the leading axis of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _choose(moments, whole, fitted_on, subset) -> float:
    """Choose the ridge of one subset by holding out its groups one at a time."""
    taken = np.flatnonzero(subset)
    # Filled up with a group of no weight: few programs for any number of groups.
    filled = np.full(bucket_size(len(taken)), taken[0])
    filled[: len(taken)] = taken
    of_groups = np.zeros(len(filled), subset.dtype)
    of_groups[: len(taken)] = subset[taken]
    pooled = _pool_groups(
        {name: moments[name] for name in fitted_on},
        {name: whole[name] for name in fitted_on},
        {name: weight * of_groups for name, weight in fitted_on.items()},
        filled,
    )
    return float(choose_ridge(pooled).ridge)


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


def _check_subsets(call, moments, subsets, kind, ridge) -> np.ndarray:
    """Bring subsets to the host; refuse shapes that do not fit, and what is no fit."""
    weights = np.asarray(subsets)
    total = {part.count.shape for part in moments.values()}
    if len(total) > 1 or any(len(shape) != 1 for shape in total):
        raise ValueError(
            f"`{call}(moments=...)`: expected one leading axis of groups, the same in "
            f"all modalities, got {sorted(total)}; number groups alike in all."
        )
    ((count,),) = total
    numbers = weights.dtype.kind in "biuf"
    if weights.ndim != 2 or weights.shape[1] != count or not numbers:
        raise ValueError(
            f"`{call}(subsets=...)`: expected weights of shape (s, {count}), got "
            f"{weights.dtype} of shape {weights.shape}; give a row for each subset, "
            "with one weight for each group."
        )
    weights = weights.astype(jax.dtypes.canonicalize_dtype(float))
    if not np.all(np.isfinite(weights) & (weights >= 0)):
        raise ValueError(
            f"`{call}(subsets=...)`: expected finite weights of at least 0, got others;"
            " 0 leaves a group out."
        )
    if kind == "linear" and ridge == 0:
        raise ValueError(
            f"`{call}(ridge=0)`: expected a positive number, such as 0.1; least "
            "squares needs rows: `fit_map(..., kind='linear', ridge=0.0)`."
        )
    if kind == "linear" and ridge is None:
        fewest = min(np.count_nonzero(weights, axis=1), default=2)
        if fewest < 2:
            raise ValueError(
                f"`{call}(ridge=None)`: expected at least 2 groups a subset to choose "
                f"the ridge on, got {fewest}; pass ridge, such as 0.1."
            )
    return weights
