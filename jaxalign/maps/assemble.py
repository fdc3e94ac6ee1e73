# SPDX-License-Identifier: Apache-2.0
"""The steps that every fit of a map shares: rotation, scales, notes, and the map."""

import functools
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign._version import __version__
from jaxalign.array_types import Array, Modality
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.checks import ALL
from jaxalign.maps.norms import anchor_norms
from jaxalign.moments import Moments
from jaxalign.solve.procrustes import (
    ProcrustesSolution,
    identified_directions,
    solve_procrustes,
)
from jaxalign.solve.scale import Scale, fit_scale, map_residual
from jaxalign.status import Status

_HIGHEST = jax.lax.Precision.HIGHEST

# Root mean square distance of rows from their mean, relative to their norm, below which
# they count as equal: half precision moves equal rows by up to 5e-4, and the rows of
# real models lie at 0.3 to 1.
LEAST_SPREAD = 1e-3


NormRanges = tuple[tuple[float, float], tuple[float, float]]
"""Smallest and largest norm of source rows, and of target rows."""


class Fitted(NamedTuple):
    """What a kind's solver found: M, what is added to it, and what it determines."""

    matrix: Array
    notes: dict[str, Any]
    kind: str
    mlp: dict[str, Array] | None = None
    within: tuple[Array, Array] | None = None


def make_map(
    call: str,
    moments: Mapping[Modality, Moments],
    fitted: Fitted,
    measured: Mapping[Modality, tuple[Array, Array]],
    *,
    fit_on: Modality,
    scale: Scale,
    notes: Mapping[str, Any] = {},
    source_space: str | None = None,
    target_space: str | None = None,
    card: Mapping[str, Any] | None = None,
    norm_ranges: Mapping[Modality, NormRanges] | None = None,
    skipped: Mapping[Modality, int] | None = None,
) -> AlignmentMap:
    """Put a map together from what was solved and measured.

    Args:
      call: named in errors.
      moments: of every modality.
      fitted: the matrix.
      measured: by modality, scale and relative residual.
      fit_on: noted.
      scale: noted.
      notes: more to note.
      source_space: see `fit_map`.
      target_space: see `fit_map`.
      card: see `fit_map`.
      norm_ranges: by modality, smallest and largest norm of the anchors of each side,
        where rows were at hand.
      skipped: by modality, bad pairs that were left out, to note.

    Raises:
      ValueError: for a scale that is not positive, or a card that is no JSON.
    """
    ranges: Mapping[Modality, Any] = norm_ranges or {}
    for name, (factor, _) in measured.items():
        _check_scale(call, name, float(factor), scale)
    of_fit: dict[str, Any] = {"fit_on": fit_on, "scale": scale, "kind": fitted.kind}
    of_fit |= {**notes, **fitted.notes}
    of_fit["modalities"] = {
        name: {
            "anchors": int(moments[name].rows),
            "scale": float(factor),
            "relative_residual": float(residual),
        }
        for name, (factor, residual) in measured.items()
    }
    for name, number in (skipped or {}).items():
        of_fit["modalities"][name]["skipped"] = number
    of_fit["jaxalign"] = __version__
    return AlignmentMap(
        matrix=fitted.matrix,
        scales={name: found[0] for name, found in measured.items()},
        source_means={name: part.source_mean for name, part in moments.items()},
        target_means={name: part.target_mean for name, part in moments.items()},
        source_norms={
            name: anchor_norms(
                part.count,
                part.source_mean,
                part.source_energy,
                *ranges.get(name, ())[:1],
            )
            for name, part in moments.items()
        },
        target_norms={
            name: anchor_norms(
                part.count,
                part.target_mean,
                part.target_energy,
                *ranges.get(name, ())[1:],
            )
            for name, part in moments.items()
        },
        mlp=fitted.mlp,
        source_space=source_space,
        target_space=target_space,
        kind=fitted.kind,
        card_json=_card_json(call, card, of_fit),
    )


def solve_rotation(
    pooled: Moments,
    *,
    proper: bool = False,
    partial: bool = False,
    rank: int | None = None,
    solution: ProcrustesSolution | None = None,
) -> Fitted:
    """Solve Procrustes; if `partial`, keep the leading directions it determines.

    Args:
      pooled: moments without leading axes.
      proper: see `fit_map`.
      partial: keep what the anchors determine, at most `rank` directions.
      rank: see `fit_map`.
      solution: of `solve_batch`, where it is solved already.
    """
    if solution is None:
        solution = solve_batch(pooled, proper=proper, partial=partial)
    # Where the rank is short, least squares would iterate over what nothing decides.
    if pooled.d_source > pooled.d_target and solution.status == Status.RANK_DEFICIENT:
        solution = solve_procrustes(pooled, proper=proper, objective="trace")
    solution.check(allow=[Status.RANK_DEFICIENT, Status.NOT_CONVERGED])
    status = Status(int(solution.status))
    notes = {"proper": proper, "rank": int(solution.rank), "status": status.name}
    if partial:
        kept = solution.rank if rank is None else jnp.minimum(solution.rank, rank)
        if int(kept) < min(pooled.d_source, pooled.d_target):
            within = identified_directions(pooled, kept)
            # (d_target, k) @ (k, d_source), 0 beyond the rank
            matrix = jnp.matmul(within[0], within[1].T, precision=_HIGHEST)
            notes["kept"] = int(kept)
            return Fitted(matrix, notes, "partial_isometry", within=within)
    short = status == Status.RANK_DEFICIENT
    within = identified_directions(pooled, solution.rank) if short else None
    return Fitted(solution.rotation, notes, "orthogonal", within=within)


def solve_batch(
    pooled: Moments, *, proper: bool = False, partial: bool = False
) -> ProcrustesSolution:
    """Solve Procrustes, over leading axes, by the objective that `fit_map` takes."""
    # What part of the rotation is identified is known of the trace's optimum.
    return solve_procrustes(
        pooled, proper=proper, objective="trace" if partial else None
    )


def map_of_moments(
    call: str,
    moments: Mapping[Modality, Moments],
    fitted: Fitted,
    *,
    scale: Scale,
    **options: Any,
) -> AlignmentMap:
    """Measure scale and residual of every modality by its moments; make the map.

    Args:
      call: named in errors.
      moments: of every modality, without leading axes.
      fitted: the matrix.
      scale: how scales are measured.
      options: as of `make_map`.
    """
    grams = all(part.source_gram is not None for part in moments.values())
    within = fitted.within if grams else None
    isometry = fitted.kind in ("orthogonal", "mean_only")
    measured = {
        name: measure(part, fitted.matrix, within, scale=scale, isometry=isometry)
        for name, part in moments.items()
    }
    return make_map(call, moments, fitted, measured, scale=scale, **options)


def check_moments(
    call: str, moments: object, *, grouped: bool, kind: str, partial: bool
) -> None:
    """Refuse what is no dictionary of the moments that a fit asks for."""
    if not isinstance(moments, Mapping) or not moments or ALL in moments:
        got = sorted(moments) if isinstance(moments, Mapping) else type(moments)
        raise ValueError(
            f"`{call}(moments=...)`: expected a dictionary of modality to Moments, "
            f"{ALL!r} not among them, got {got}; pass {{'image': moments}}."
        )
    widths = None
    for name, part in moments.items():
        of = f"`{call}(moments[{name!r}])`"
        if not isinstance(part, Moments) or bool(part.groups) != grouped:
            got = part.groups if isinstance(part, Moments) else type(part).__name__
            remedy = (
                "accumulate them with groups"
                if grouped
                else "merge the groups by `reduce_groups`"
            )
            raise ValueError(
                f"{of}: expected Moments {'with' if grouped else 'without'} groups, "
                f"got {got}; {remedy}."
            )
        found = (part.d_source, part.d_target)
        if widths is not None and found != widths:
            raise ValueError(
                f"{of}: expected widths {widths} as of the other modalities, got "
                f"{found}; all modalities share one source and one target model."
            )
        widths = found
        why = {"linear": "a linear map"}.get(kind)
        why = why or ("a part of a rotation" if partial else None)
        if part.d_source > part.d_target:
            why = why or f"a map from width {part.d_source} to {part.d_target}"
        if why and part.source_gram is None:
            raise ValueError(
                f"{of}: expected Gram matrices, which {why} takes, got none; make "
                "them by `init_moments(..., grams=True)`."
            )


def check_spread(call: str, name: Modality, moments: Moments) -> None:
    """Raise unless the moments are finite, and rows of both sides differ.

    Nothing is left of equal rows once they are centred. Rows that an encoder made of
    one input in several batches differ by its rounding alone, which is no spread.
    """
    spreads = {
        "source": (moments.source_energy, moments.source_mean),
        "target": (moments.target_energy, moments.target_mean),
    }
    rows = int(moments.rows)
    for side, (energy, mean) in spreads.items():
        about_mean = float(energy)
        in_mean = float(moments.count) * float(np.sum(np.square(np.asarray(mean))))
        if not np.isfinite(about_mean + in_mean):
            raise ValueError(
                f"`{call}[{name!r}]`: expected finite {side} rows, got moments of "
                f"{rows} rows with NaN or infinity among them; give such pairs "
                "weight 0, or pass skip_bad=True where the rows are accumulated."
            )
        if about_mean <= LEAST_SPREAD**2 * (about_mean + in_mean):
            raise ValueError(
                f"`{call}[{name!r}]`: expected {side} rows that differ, got {rows} "
                "rows that are equal, or nearly so: they lie about their mean within "
                f"{LEAST_SPREAD:g} of their norm; pass embeddings of different inputs."
            )


@functools.partial(jax.jit, static_argnames=("scale", "isometry"))
def measure(moments, matrix, within, *, scale, isometry):
    """One modality's scale, and its residual relative to the target energy."""
    factor = fit_scale(moments, matrix, scale=scale, isometry=isometry, within=within)
    residual = map_residual(moments, matrix, factor, isometry=isometry)
    return factor, residual / moments.target_energy


def _check_scale(call, name, factor, scale) -> None:
    """Refuse a scale with which the map cannot carry that modality at all."""
    if not (np.isfinite(factor) and factor > 0):
        raise ValueError(
            f"`{call}(scale={scale!r})`: expected a positive scale for {name!r}, got "
            f"{factor:.3g}: the map does not correlate with these pairs; check "
            "that their rows pair, or pass scale='none'."
        )


def _card_json(call, card, notes) -> str:
    """Join the user's card and the fit's notes, as canonical JSON."""
    if card is not None and not isinstance(card, Mapping):
        raise ValueError(
            f"`{call}(card=...)`: expected a dictionary, got {type(card).__name__}; "
            "pass {'note': ...}."
        )
    own = dict(card or {})
    if "fit" in own:
        raise ValueError(
            f"`{call}(card=...)`: expected no entry 'fit', which the fit writes "
            "itself; give yours another name."
        )
    try:
        return json.dumps({**own, "fit": notes}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{call}(card=...)`: expected JSON values, got {error}; pass strings, "
            "numbers, lists and dictionaries."
        ) from error
