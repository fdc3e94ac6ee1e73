# SPDX-License-Identifier: Apache-2.0
"""`map_from_moments`: a map of what a pass over any number of rows left.

Where `fit_map` takes rows; `maps_of_subsets` takes moments of groups.
"""

import typing
from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp

from jaxalign.array_types import Modality
from jaxalign.maps import checks
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.anchor_moments import pool_weighted
from jaxalign.maps.assemble import (
    Fitted,
    check_moments,
    check_spread,
    map_of_moments,
    solve_rotation,
)
from jaxalign.moments import Moments
from jaxalign.solve.linear import solve_linear
from jaxalign.solve.scale import ORTHOGONAL_SCALE, Scale
from jaxalign.status import Status

MomentsKind = Literal["orthogonal", "linear", "mean_only"]
MOMENTS_KINDS: tuple[str, ...] = typing.get_args(MomentsKind)


def map_from_moments(
    moments: Mapping[Modality, Moments],
    *,
    fit_on: Modality | None = None,
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
        Grams for a linear map, for a part of a rotation, and for any map where
        ``d_source > d_target``.
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
      ValueError: for moments with groups, without spread or without the Grams that
        the fit takes, or options that do not exist or do not go together.

    >>> import numpy as np, jaxalign as ja
    >>> rows = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]], np.float32)
    >>> moments = ja.update_moments(ja.init_moments(2, 2), rows, rows[:, ::-1])
    >>> swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> rotation = map_from_moments({"image": moments}).rotation
    >>> bool(np.allclose(rotation, swap, atol=1e-6))
    True
    """
    call = "map_from_moments"
    partial = identified_only or rank is not None
    check_moments(call, moments, grouped=False, kind=kind, partial=partial)
    fit_on = checks.default_fit_on(call, moments, fit_on)
    checks.check_options(
        call,
        moments,
        fit_on=fit_on,
        scale=scale,
        kind=kind,
        proper=proper,
        identified_only=identified_only,
        rank=rank,
        kinds=MOMENTS_KINDS,
    )
    checks.check_spaces(call, source_space, target_space)
    fitted_on = checks.check_modality_weights(call, modality_weights, moments, fit_on)
    first = next(iter(moments.values()))
    checks.check_widths(call, kind, first.d_source, first.d_target)
    for name, part in moments.items():
        check_spread(f"{call}(moments=...)", name, part)
    chosen: Scale = scale or (ORTHOGONAL_SCALE if kind == "orthogonal" else "none")
    if kind == "linear":
        if not ridge > 0:
            raise ValueError(
                f"`{call}(ridge={ridge})`: expected a positive number, such as 0.1; "
                "least squares needs rows: `fit_map(..., kind='linear', ridge=0.0)`."
            )
        fitted = solve_ridge(pool_weighted(moments, fitted_on), float(ridge))
    elif kind == "orthogonal":
        fitted = solve_rotation(
            pool_weighted(moments, fitted_on), proper=proper, partial=partial, rank=rank
        )
    else:
        fitted = Fitted(jnp.eye(first.d_source, dtype=first.count.dtype), {}, kind)
    return map_of_moments(
        call,
        moments,
        fitted,
        fit_on=fit_on,
        scale=chosen,
        notes={} if modality_weights is None else {"modality_weights": fitted_on},
        source_space=source_space,
        target_space=target_space,
        card=card,
    )


def solve_ridge(pooled: Moments, ridge: float) -> Fitted:
    """Solve a linear map of a positive ridge, with what there is to note of it."""
    solution = solve_linear(pooled, ridge=ridge).check()
    status = Status(int(solution.status)).name
    notes = {"ridge": ridge, "rank": int(solution.rank), "status": status}
    return Fitted(solution.matrix, notes, "linear")
