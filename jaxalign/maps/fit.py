# SPDX-License-Identifier: Apache-2.0
"""`fit_map`: paired rows of each modality in, one `AlignmentMap` out.

The one entry that checks a user's rows, not only their shapes. Rows go through the
moments in batches of one size, so neither their number nor their order costs memory or
a second compilation.
"""

from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.maps import checks
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.anchor_moments import all_moments, pool_weighted
from jaxalign.maps.anchor_rows import inspect_pairs, on_host, without_bad
from jaxalign.maps.assemble import (
    Fitted,
    check_spread,
    make_map,
    measure,
    solve_rotation,
)
from jaxalign.maps.linear_fit import solve_anchors
from jaxalign.maps.mlp_fit import solve_perceptron
from jaxalign.maps.robust_fit import believe_rows
from jaxalign.maps.row_measures import carry_by, measure_rows
from jaxalign.solve.robust import Loss
from jaxalign.solve.scale import ORTHOGONAL_SCALE, Scale

Kind = Literal["orthogonal", "linear", "mlp", "mean_only"]


def fit_map(
    pairs: Mapping[Modality, tuple[ArrayLike, ArrayLike]],
    *,
    fit_on: Modality | None = None,
    scale: Scale | None = None,
    kind: Kind = "orthogonal",
    ridge: float | None = None,
    proper: bool = False,
    identified_only: bool = False,
    rank: int | None = None,
    loss: Loss | None = None,
    modality_weights: Mapping[Modality, float] | None = None,
    weights: Mapping[Modality, ArrayLike] | None = None,
    groups: Mapping[Modality, ArrayLike] | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    source_space: str | None = None,
    target_space: str | None = None,
    card: Mapping[str, Any] | None = None,
    batch_size: int = 4096,
) -> AlignmentMap:
    r"""Fit one map on the anchors of one modality, with means for every modality.

    The matrix maximises :math:`\langle Q, C \rangle` for the cross-covariance
    :math:`C` of the centred anchors of `fit_on` (`solve_procrustes`), and serves every
    modality in `pairs`; each has its own means and scale. Where ``d_source >
    d_target`` it minimises the squared error instead, which is no longer the same.

    Args:
      pairs: by modality, ``(source, target)`` rows of shapes ``(n, d_source)`` and
        ``(n, d_target)``; row i of both is one anchor seen by both models. Each
        modality has its own n, at least 2. Floating, NumPy or JAX, memory-mapped too.
      fit_on: the modality that the matrix is fitted on, or ``"all"``: the moments of
        every modality, each centred by its own means, added up. Default: the only
        modality of `pairs`, or "image" if it is one of several.
      scale: per modality: ``"energy"`` gives aligned rows the spread of the target
        rows, ``"none"`` is 1, ``"least_squares"`` the best factor. Default: "energy"
        for an orthogonal map, "none" for the other kinds.
        Where the anchors leave part of an orthogonal map open, "energy" compares the
        spread of source and target rows on the part that they determine.
      kind: ``"orthogonal"``, ``"linear"`` (ridge), ``"mlp"`` (a residual perceptron,
        `fit_mlp`) or ``"mean_only"`` (no rotation).
      ridge: of a linear map, relative as in `solve_linear`; 0 is least squares, solved
        from the rows in float64 (`solve_least_squares`). Default: chosen by
        cross-validation on the anchors of `fit_on`.
      proper: only rotations of determinant +1.
      identified_only: of an orthogonal map, keep the part that the anchors determine
        and carry the rest to 0, as a map of kind "partial_isometry", instead of
        turning the rest at will. Where they determine all, nothing changes.
      rank: keep at most so many of these directions, the leading ones; implies
        `identified_only`.
      loss: of an orthogonal map, where pairs may be wrong: ``"tukey"`` drops those that
        the others do not bear out, ``"huber"`` and ``"l1"`` weaken them. The weights
        that `solve_robust` finds for the anchors of `fit_on`, with a least-squares
        scale, multiply yours. Default: all pairs are believed.
      modality_weights: with ``fit_on="all"``, what to multiply the weight of each row
        of a modality by; one left out has 1, and 0 leaves a modality out of the matrix.
      weights: by modality, ``(n,)``, not negative: of the anchors, in the means, the
        matrix, the scale and the residual. A modality left out has equal weights.
      groups: by modality, ``(n,)`` labels, such as classes: where a ridge is chosen or
        an MLP stopped on anchors held out, rows of one label are held out together.
        Without them anchors are split at random, and where several rows show one thing
        the ridge comes out too weak.
      seed: of an MLP.
      skip_bad: leave out pairs of which a row is not finite or is zero, and count them
        in the card, instead of raising.
      source_space: fingerprint of the source model's space, refused on mismatch later.
      target_space: the same for the target model.
      card: notes of yours, JSON values, kept in the map's card beside ``"fit"``.
      batch_size: rows a batch.

    Returns:
      The map. ``amap.card["fit"]`` says how it was fitted: anchors, rank, status,
      scales, and per modality the residual relative to the target energy; with a loss,
      the share of anchors that kept less than a tenth of their weight. Its status is
      NOT_CONVERGED where the least squares of a wide source did not come to rest, and
      RANK_DEFICIENT where the anchors leave part of the map open, as fewer anchors
      than dimensions do: what Q does outside the identified subspace is arbitrary.

    Raises:
      ValueError: for rows that do not pair, are not finite or are zero, fewer than two
        anchors, anchors without spread, an unknown option, or options that do not go
        together; the text names the argument, what came, and what to do.

    Notes:
      The order of rows and the batch size change the result by rounding only, but for
      an MLP. Cost O(n d_source d_target + d^3). A loss costs as much again for each of
      up to 75 rounds, and holds the rows of `fit_on` in memory; it needs several times
      more anchors than dimensions, or each pair bears itself out.

    References:
      Gupta, Kansal, Jegelka, Isola, Garg, "Canonicalizing Multimodal Contrastive
      Representation Learning", arXiv 2602.17584.

    >>> import numpy as np
    >>> source = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]], np.float32)
    >>> amap = fit_map({"image": (source, source[:, ::-1])})
    >>> swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> bool(np.allclose(amap.rotation, swap, atol=1e-6)), amap.card["fit"]["status"]
    (True, 'OK')
    """
    call = "fit_map"
    # What costs nothing comes first: rows may be a file of many gigabytes.
    checks.check_modalities(call, pairs)
    fit_on = checks.default_fit_on(call, pairs, fit_on)
    checks.check_options(
        call,
        pairs,
        fit_on=fit_on,
        scale=scale,
        kind=kind,
        ridge=ridge,
        proper=proper,
        identified_only=identified_only,
        rank=rank,
        loss=loss,
        batch_size=batch_size,
    )
    checks.check_spaces(call, source_space, target_space)
    rows = inspect_pairs(call, pairs, skip_bad=skip_bad)
    fitted_on = checks.check_modality_weights(call, modality_weights, rows, fit_on)
    hosts: dict[Modality, Any] = {name: part.sides for name, part in rows.items()}
    of_rows = checks.check_weights(call, weights, hosts)
    labels = checks.check_groups(call, groups, hosts)
    if kind in ("linear", "mlp") or loss is not None:
        # Fitted on single rows, on the host and without those left out.
        hosts, of_rows, labels = on_host(rows, of_rows, labels)
    else:
        of_rows = without_bad(rows, of_rows)
    d_source, d_target = (side.shape[1] for side in next(iter(hosts.values())))
    checks.check_widths(call, kind, d_source, d_target)
    chosen = scale or (ORTHOGONAL_SCALE if kind == "orthogonal" else "none")
    partial = identified_only or rank is not None
    notes: dict[str, Any] = {}
    if modality_weights is not None:
        notes["modality_weights"] = fitted_on
    if weights:
        notes["weighted"] = sorted(weights)
    anchors = {name: hosts[name] for name in fitted_on}
    if loss is not None:
        believed, judged = believe_rows(anchors, of_rows, loss=loss, proper=proper)
        of_rows, notes = {**of_rows, **believed}, {**notes, **judged}
    # Orthonormal columns keep the energy of rows; anything else needs the Gram, and so
    # does a subspace, which is all that this many anchors can determine.
    most = sum(rows[name].anchors - 1 for name in fitted_on)
    few = chosen == "energy" and most < min(d_source, d_target)
    grams = kind == "linear" or d_source > d_target or few or partial
    moments = all_moments(hosts, of_rows, grams=grams, batch_size=batch_size)
    for name, part in moments.items():
        check_spread(f"{call}(pairs=...)", name, part)
    how = {"weights": of_rows, "modality_weights": fitted_on, "groups": labels}
    if kind == "linear":
        matrix, found = solve_anchors(
            anchors, moments, ridge=ridge, batch_size=batch_size, **how
        )
        fitted = Fitted(jnp.asarray(matrix), found, kind)
    elif kind == "mlp":
        matrix, beyond, found = solve_perceptron(anchors, moments, seed=seed, **how)
        fitted = Fitted(matrix, found, kind, beyond)
    elif kind == "orthogonal":
        fitted = solve_rotation(
            pool_weighted(moments, fitted_on), proper=proper, partial=partial, rank=rank
        )
        if fitted.within and chosen == "energy" and not grams:
            # Anchors that repeat, or lie in a subspace: known only now.
            moments = all_moments(hosts, of_rows, grams=True, batch_size=batch_size)
    else:
        dtype = next(iter(moments.values())).source_mean.dtype
        fitted = Fitted(jnp.eye(d_source, dtype=dtype), {}, kind)
    measured = {}
    for name, part in moments.items():
        if kind in ("linear", "mlp"):
            carry = carry_by(fitted.matrix, fitted.mlp)
            measured[name] = measure_rows(
                hosts[name],
                of_rows.get(name),
                part,
                carry,
                scale=chosen,
                block=batch_size,
            )
        else:
            isometry = fitted.kind != "partial_isometry"
            measured[name] = measure(
                part, fitted.matrix, fitted.within, scale=chosen, isometry=isometry
            )
    return make_map(
        call,
        moments,
        fitted,
        measured,
        fit_on=fit_on,
        scale=chosen,
        notes=notes,
        source_space=source_space,
        target_space=target_space,
        card=card,
        norm_ranges={
            name: part.norm_ranges((weights or {}).get(name))
            for name, part in rows.items()
        },
        skipped={name: part.skipped for name, part in rows.items()} if skip_bad else {},
    )
