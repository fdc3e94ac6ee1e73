# SPDX-License-Identifier: Apache-2.0
"""Maps from moments: one of all rows, or one for each of many subsets of groups.

Where `fit_map` takes rows, these take what a pass over any number of rows left.
"""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.maps import checks
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.anchor_moments import pool_weighted
from jaxalign.maps.assemble import (
    Fitted,
    check_spread,
    make_map,
    measure,
    solve_rotation,
)
from jaxalign.moments import Moments, reduce_groups
from jaxalign.solve.linear import solve_linear
from jaxalign.solve.procrustes import solve_procrustes
from jaxalign.solve.scale import Scale
from jaxalign.status import Status

MomentsKind = Literal["orthogonal", "linear", "mean_only"]

# Subsets that are solved at once: enough for one program, few d x d matrices.
_AT_ONCE = 32


def map_from_moments(
    moments: Mapping[Modality, Moments],
    *,
    fit_on: Modality = "image",
    scale: Scale | None = None,
    kind: MomentsKind = "orthogonal",
    ridge: float = 0.1,
    proper: bool = False,
    identified_only: bool = False,
    rank: int | None = None,
    modality_weights: Mapping[Modality, float] | None = None,
    source_space: str | None = None,
    target_space: str | None = None,
    card: Mapping[str, Any] | None = None,
) -> AlignmentMap:
    """Fit one map on the moments of one modality, with means for every modality.

    Args:
      moments: by modality, without groups (`reduce_groups` takes them away). With
        Grams for a linear map, a part of a rotation, or ``d_source > d_target``.
      fit_on: as of `fit_map`.
      scale: as of `fit_map`; where the rows leave a part of the rotation open and the
        moments hold no Grams, "energy" compares all of the spread.
      kind: ``"orthogonal"``, ``"linear"`` (ridge) or ``"mean_only"``.
      ridge: of a linear map, relative as in `solve_linear`, positive: `choose_ridge`
        chooses it from grouped moments. Least squares needs rows, see `fit_map`.
      proper: as of `fit_map`.
      identified_only: as of `fit_map`.
      rank: as of `fit_map`.
      modality_weights: as of `fit_map`.
      source_space: as of `fit_map`.
      target_space: as of `fit_map`.
      card: as of `fit_map`.

    Returns:
      The map: the same, up to rounding, as `fit_map` gives of the rows.

    Raises:
      ValueError: for moments with groups or without spread, or options that do not
        exist or do not go together.

    >>> import jaxalign as ja
    >>> rows = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]], np.float32)
    >>> moments = ja.update_moments(ja.init_moments(2, 2), rows, rows[:, ::-1])
    >>> abs(map_from_moments({"image": moments}).rotation).round(3).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    call = "map_from_moments"
    _check_moments(call, moments, grouped=False)
    checks.check_options(
        moments, fit_on, scale, kind, None, proper, identified_only, rank, 1
    )
    checks.check_spaces(source_space, target_space)
    fitted_on = checks.check_modality_weights(modality_weights, moments, fit_on)
    first = next(iter(moments.values()))
    if kind == "mean_only" and first.d_source != first.d_target:
        raise ValueError(
            f"`{call}(kind='mean_only')`: expected equal widths, got {first.d_source} "
            f"and {first.d_target}; use kind='orthogonal'."
        )
    for name, part in moments.items():
        check_spread(f"{call}(moments=...)", name, part)
    chosen: Scale = scale or ("energy" if kind == "orthogonal" else "none")
    partial = identified_only or rank is not None
    if kind == "linear":
        if not ridge > 0:
            raise ValueError(
                f"`{call}(ridge={ridge})`: expected a positive number, such as 0.1; "
                "least squares needs rows: `fit_map(..., kind='linear', ridge=0.0)`."
            )
        solution = solve_linear(pool_weighted(moments, fitted_on), ridge=ridge).check()
        fitted = Fitted(
            solution.matrix, {"ridge": ridge, "rank": int(solution.rank)}, kind
        )
    elif kind == "orthogonal":
        fitted = solve_rotation(
            pool_weighted(moments, fitted_on), proper=proper, partial=partial, rank=rank
        )
    else:
        fitted = Fitted(jnp.eye(first.d_source, dtype=first.count.dtype), {}, kind)
    return _finish(
        call,
        moments,
        fitted,
        fit_on=fit_on,
        scale=chosen,
        source_space=source_space,
        target_space=target_space,
        card=card,
    )


def maps_of_subsets(
    moments: Mapping[Modality, Moments],
    subsets: Shaped[ArrayLike, "s g"],
    *,
    fit_on: Modality = "image",
    scale: Scale = "energy",
    source_space: str | None = None,
    target_space: str | None = None,
) -> list[AlignmentMap]:
    """Fit an orthogonal map on each of many subsets of groups, without another pass.

    Args:
      moments: by modality, grouped, the same groups in all (such as classes).
      subsets: ``(s, G)`` weights of the groups in each subset, see `reduce_groups`.
      fit_on: as of `fit_map`.
      scale: as of `fit_map`.
      source_space: as of `fit_map`.
      target_space: as of `fit_map`.

    Returns:
      A map for each subset, in order.

    Raises:
      ValueError: for moments without groups, a subset without spread, or options that
        do not exist.

    Notes:
      Subsets are solved in batches of 32, so that few d x d matrices are in memory.
    """
    call = "maps_of_subsets"
    _check_moments(call, moments, grouped=True)
    checks.check_options(
        moments, fit_on, scale, "orthogonal", None, False, False, None, 1
    )
    fitted_on = checks.check_modality_weights(None, moments, fit_on)
    weights = np.asarray(subsets)
    maps = []
    for start in range(0, len(weights), _AT_ONCE):
        part = weights[start : start + _AT_ONCE]
        # The last batch is filled up, so that one program serves all.
        filled = np.concatenate([part, np.repeat(part[-1:], _AT_ONCE - len(part), 0)])
        reduced = {name: reduce_groups(one, filled) for name, one in moments.items()}
        solutions = solve_procrustes(pool_weighted(reduced, fitted_on))
        for index in range(len(part)):
            own = {
                name: jax.tree.map(lambda leaf, k=index: leaf[k], one)
                for name, one in reduced.items()
            }
            for name, one in own.items():
                check_spread(f"{call}(moments=...)", name, one)
            solution = jax.tree.map(lambda leaf, k=index: leaf[k], solutions)
            solution.check(allow=[Status.RANK_DEFICIENT])
            notes = {
                "rank": int(solution.rank),
                "status": Status(int(solution.status)).name,
            }
            maps.append(
                _finish(
                    call,
                    own,
                    Fitted(solution.rotation, notes, "orthogonal"),
                    fit_on=fit_on,
                    scale=scale,
                    source_space=source_space,
                    target_space=target_space,
                )
            )
    return maps


def _finish(call, moments, fitted: Fitted, *, scale: Scale, **options) -> AlignmentMap:
    """Measure scale and residual of every modality, and make the map."""
    grams = all(part.source_gram is not None for part in moments.values())
    within = fitted.within if grams else None
    isometry = fitted.kind in ("orthogonal", "mean_only")
    measured = {
        name: measure(part, fitted.matrix, within, scale=scale, isometry=isometry)
        for name, part in moments.items()
    }
    return make_map(call, moments, fitted, measured, scale=scale, **options)


def _check_moments(call: str, moments, *, grouped: bool) -> None:
    """Refuse what is no dictionary of moments with, or without, groups."""
    if not isinstance(moments, Mapping) or not moments:
        raise ValueError(
            f"`{call}(moments=...)`: expected a dictionary of modality to Moments, got "
            f"{type(moments).__name__}; pass {{'image': moments}}."
        )
    for name, part in moments.items():
        if not isinstance(part, Moments) or bool(part.groups) != grouped:
            got = part.groups if isinstance(part, Moments) else type(part).__name__
            remedy = (
                "accumulate them with groups"
                if grouped
                else "merge the groups by `reduce_groups`"
            )
            raise ValueError(
                f"`{call}(moments[{name!r}])`: expected Moments "
                f"{'with' if grouped else 'without'} groups, got {got}; {remedy}."
            )
