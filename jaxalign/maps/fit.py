# SPDX-License-Identifier: Apache-2.0
"""`fit_map`: paired rows of each modality in, one `AlignmentMap` out.

The one entry that checks a user's rows, not only their shapes. Rows go through the
moments in batches of one size, so neither their number nor their order costs memory or
a second compilation.
"""

import functools
import json
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign._version import __version__
from jaxalign.array_types import ArrayLike, Modality
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.anchor_moments import all_moments, pool_moments
from jaxalign.maps.checks import ALL, check_options, check_pairs, check_spaces
from jaxalign.maps.linear_fit import measure_linear, solve_anchors
from jaxalign.solve.procrustes import (
    Scale,
    fit_scale,
    identified_directions,
    map_residual,
    solve_procrustes,
)
from jaxalign.status import Status

Kind = Literal["orthogonal", "linear", "mean_only"]


def fit_map(
    pairs: Mapping[Modality, tuple[ArrayLike, ArrayLike]],
    *,
    fit_on: Modality = "image",
    scale: Scale | None = None,
    kind: Kind = "orthogonal",
    ridge: float | None = None,
    proper: bool = False,
    source_space: str | None = None,
    target_space: str | None = None,
    card: Mapping[str, Any] | None = None,
    batch_size: int = 4096,
) -> AlignmentMap:
    r"""Fit one map on the anchors of one modality, with means for every modality.

    The matrix maximises :math:`\langle Q, C \rangle` for the cross-covariance
    :math:`C` of the centred anchors of `fit_on` (`solve_procrustes`), and serves every
    modality in `pairs`; each has its own means and scale.

    Args:
      pairs: by modality, ``(source, target)`` rows of shapes ``(n, d_source)`` and
        ``(n, d_target)``; row i of both is one anchor seen by both models. Each
        modality has its own n, at least 2. Floating, NumPy or JAX, memory-mapped too.
      fit_on: the modality that the matrix is fitted on, or ``"all"``: the moments of
        every modality, each centred by its own means, added up.
      scale: per modality: ``"energy"`` gives aligned rows the spread of the target
        rows, ``"none"`` is 1, ``"least_squares"`` the best factor. Default: "energy"
        for an orthogonal map, "none" for the other kinds.
        Where the anchors leave part of an orthogonal map open, "energy" compares the
        spread of source and target rows on the part that they determine.
      kind: ``"orthogonal"``, ``"linear"`` (ridge) or ``"mean_only"`` (no rotation).
      ridge: of a linear map, relative as in `solve_linear`; 0 is least squares, solved
        from the rows in float64 (`solve_least_squares`). Default: chosen by
        cross-validation on the anchors of `fit_on`, split at random. Where several
        rows show one thing that comes out too weak: choose it by `choose_ridge` on
        folds of whole things, and pass it.
      proper: only rotations of determinant +1.
      source_space: fingerprint of the source model's space, refused on mismatch later.
      target_space: the same for the target model.
      card: notes of yours, JSON values, kept in the map's card beside ``"fit"``.
      batch_size: rows a batch.

    Returns:
      The map. ``amap.card["fit"]`` says how it was fitted: anchors, rank, status,
      scales, and per modality the residual relative to the target energy. Its status
      is RANK_DEFICIENT where the anchors leave part of the map open, as fewer anchors
      than dimensions do: what Q does outside the identified subspace is arbitrary.

    Raises:
      ValueError: for rows that do not pair, are not finite or are zero, fewer than two
        anchors, anchors without spread, an unknown option, or options that do not go
        together; the text names the argument, what came, and what to do.

    Notes:
      The order of rows and the batch size change the result by rounding only. Cost
      O(n d_source d_target + d^3).

    References:
      Gupta, Kansal, Jegelka, Isola, Garg, "Canonicalizing Multimodal Contrastive
      Representation Learning", arXiv 2602.17584.

    >>> source = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]], np.float32)
    >>> amap = fit_map({"image": (source, source[:, ::-1])})
    >>> abs(amap.rotation).round(3).tolist(), amap.card["fit"]["status"]
    ([[0.0, 1.0], [1.0, 0.0]], 'OK')
    """
    check_options(pairs, fit_on, scale, kind, ridge, proper, batch_size)
    check_spaces(source_space, target_space)
    hosts = check_pairs(pairs)
    d_source, d_target = (side.shape[1] for side in next(iter(hosts.values())))
    if kind == "mean_only" and d_source != d_target:
        raise ValueError(
            f"`fit_map(kind='mean_only')`: expected equal widths, got {d_source} and "
            f"{d_target}; use kind='orthogonal'."
        )
    chosen = scale or ("energy" if kind == "orthogonal" else "none")
    fitted_on = list(hosts) if fit_on == ALL else [fit_on]
    # Orthonormal columns keep the energy of rows; anything else needs the Gram, and so
    # does a subspace, which is all that this many anchors can determine.
    most = sum(hosts[name][0].shape[0] - 1 for name in fitted_on)
    few = chosen == "energy" and most < min(d_source, d_target)
    grams = kind == "linear" or d_source > d_target or few
    moments = all_moments(hosts, grams=grams, batch_size=batch_size)
    for name, part in moments.items():
        _check_spread(name, part)
    notes: dict[str, Any] = {"fit_on": fit_on, "scale": chosen, "kind": kind}
    within = None
    if kind == "linear":
        matrix, found = solve_anchors(
            {name: hosts[name] for name in fitted_on},
            moments,
            ridge=ridge,
            batch_size=batch_size,
        )
        notes |= found
    elif kind == "orthogonal":
        pooled = functools.reduce(pool_moments, [moments[name] for name in fitted_on])
        solution = solve_procrustes(pooled, proper=proper)
        solution.check(allow=[Status.RANK_DEFICIENT])
        status = Status(int(solution.status))
        matrix = solution.rotation
        notes |= {"proper": proper, "rank": int(solution.rank), "status": status.name}
        if status != Status.OK and chosen == "energy":
            within = identified_directions(pooled, solution.rank)
            if not grams:  # Anchors that repeat, or lie in a subspace: known only now.
                moments = all_moments(hosts, grams=True, batch_size=batch_size)
    else:
        matrix = jnp.eye(d_source, dtype=moments[fitted_on[0]].source_mean.dtype)
    measured = {
        name: measure_linear(hosts[name], part, matrix, scale=chosen, block=batch_size)
        if kind == "linear"
        else _measure(part, matrix, within, scale=chosen)
        for name, part in moments.items()
    }
    for name, (factor, _) in measured.items():
        _check_scale(name, float(factor), chosen)
    scales = {name: fitted[0] for name, fitted in measured.items()}
    notes["modalities"] = {
        name: {
            "anchors": int(moments[name].rows),
            "scale": float(factor),
            "relative_residual": float(residual),
        }
        for name, (factor, residual) in measured.items()
    }
    notes["jaxalign"] = __version__
    return AlignmentMap(
        matrix=matrix,
        scales=scales,
        source_means={name: part.source_mean for name, part in moments.items()},
        target_means={name: part.target_mean for name, part in moments.items()},
        source_space=source_space,
        target_space=target_space,
        kind=kind,
        card_json=_card_json(card, notes),
    )


def _check_spread(name, moments) -> None:
    """Refuse rows that are all equal: nothing is left of them once centred."""
    for side, energy in (
        ("source", moments.source_energy),
        ("target", moments.target_energy),
    ):
        if not float(energy) > 0:
            raise ValueError(
                f"`fit_map(pairs[{name!r}])`: expected {side} rows that differ, got "
                f"{int(moments.rows)} equal ones; pass embeddings of different inputs."
            )


@functools.partial(jax.jit, static_argnames="scale")
def _measure(moments, matrix, within, *, scale):
    """One modality's scale, and its residual relative to the target energy."""
    factor = fit_scale(moments, matrix, scale=scale, isometry=True, within=within)
    residual = map_residual(moments, matrix, factor, isometry=True)
    return factor, residual / moments.target_energy


def _check_scale(name, factor, scale) -> None:
    """Refuse a scale with which the map cannot carry that modality at all."""
    if not (np.isfinite(factor) and factor > 0):
        raise ValueError(
            f"`fit_map(scale={scale!r})`: expected a positive scale for {name!r}, got "
            f"{factor:.3g}: the map does not correlate with these pairs; check "
            "that their rows pair, or pass scale='none'."
        )


def _card_json(card, notes) -> str:
    """Join the user's card and the fit's notes, as canonical JSON."""
    if card is not None and not isinstance(card, Mapping):
        raise ValueError(
            f"`fit_map(card=...)`: expected a dictionary, got {type(card).__name__}; "
            "pass {'note': ...}."
        )
    own = dict(card or {})
    if "fit" in own:
        raise ValueError(
            "`fit_map(card=...)`: expected no entry 'fit', which the fit writes "
            "itself; give yours another name."
        )
    try:
        return json.dumps({**own, "fit": notes}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`fit_map(card=...)`: expected JSON values, got {error}; pass strings, "
            "numbers, lists and dictionaries."
        ) from error
