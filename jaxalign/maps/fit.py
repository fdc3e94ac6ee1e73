# SPDX-License-Identifier: Apache-2.0
"""`fit_map`: anchors or moments in, one `AlignmentMap` out; the driver of all families.

A family finds the matrix; here are what all fits share. Anchors are validated once and
go through the moments in batches of one size, so neither their number nor their order
costs memory or a second compilation.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxalign.anchors.anchors import (
    BATCH_SIZE,
    Anchors,
    as_anchors,
    check_names,
    check_spaces,
)
from jaxalign.anchors.folds import fold_rows
from jaxalign.array_types import ArrayLike, Modality
from jaxalign.errors import ArgumentError, check_count
from jaxalign.families.family import Family, Solved, need_rows
from jaxalign.families.orthogonal import Orthogonal
from jaxalign.families.robust import Robust
from jaxalign.families.row_measures import measure_rows
from jaxalign.families.scorer import ScorerFamily
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.assemble import (
    Measured,
    Provenance,
    check_card,
    check_spread,
    facts_of,
    make_map,
    measure,
    settled,
    settled_scorer,
    small_parts,
    with_sketches,
)
from jaxalign.maps.encode import MOST_ANCHORS, with_anchors
from jaxalign.maps.options import (
    as_moments,
    check_family,
    check_grams,
    check_moments,
    check_scorer,
    weights_of,
)
from jaxalign.maps.poor_fit import warn_if_poor
from jaxalign.moments import Moments
from jaxalign.moments.pooling import pool_modalities
from jaxalign.solve.scale import Scale
from jaxalign.spaces import same_space

# A strength is chosen on so many folds of the anchors.
FOLDS = 5


def fit_map(
    anchors: Anchors
    | Mapping[Modality, tuple[ArrayLike, ArrayLike]]
    | tuple[ArrayLike, ArrayLike]
    | Mapping[Modality, Moments]
    | Moments,
    family: Family = Orthogonal(),  # noqa: B008 (frozen)
    *,
    scorer: ScorerFamily | None = None,
    fit_on: Modality | Mapping[Modality, float] | None = None,
    scale: Scale | None = None,
    skip_bad: bool = False,
    source_space: str | None = None,
    target_space: str | None = None,
    card: Mapping[str, Any] | None = None,
    keep_anchors: int = MOST_ANCHORS,
    batch_size: int = BATCH_SIZE,
) -> AlignmentMap:
    r"""Fit one map on the anchors of one modality, with means for every modality.

    The family finds the matrix, by default the identified part of the orthogonal map
    (`Orthogonal`). It serves every modality of the anchors; each has its own means and
    scale.

    Args:
      anchors: `Anchors`, or what makes them: a dictionary of modality to ``(source,
        target)`` rows of shapes ``(n, d_source)`` and ``(n, d_target)``, or one such
        pair. Or `Moments` by modality, without groups, for families that need no rows;
        with Grams where the family or ``d_source > d_target`` asks for them, and where
        the anchors determine part of an orthogonal map, unless the scale is "none".
      family: see `families`: `Orthogonal`, `Ridge`, `LowRank`, `LeastSquares`, `Mlp`,
        `MeanOnly`, `Given`, or `Robust` around one of them.
      scorer: how searches score rows, beside the map of rows: `LikelihoodRatio`, `Half`
        or `TowardIndex`. Default: searches use the map of rows. Takes Grams.
      fit_on: the modality that the matrix is fitted on; ``"all"``: the moments of every
        modality, each centred by its own means, added up; or weights by modality, by
        which these are multiplied. Default: the only modality, or "image" if it is one
        of several.
      scale: per modality: ``"energy"`` gives aligned rows the spread of the target
        rows, ``"none"`` is 1, ``"least_squares"`` the best factor. Default: the
        family's, "energy" for an orthogonal map, "none" for the others. Where the
        anchors determine part of an orthogonal map, "energy" compares the spread of
        source and target rows on that part. A modality without pairs takes the fitted
        one's scale where its own rows cannot tell one.
      skip_bad: leave out pairs of which a row is not finite or is zero, and count them
        in the card, instead of raising. Refused with `Anchors` and moments, which have
        the option where they are made.
      source_space: fingerprint of the source model's space, refused on mismatch later.
        Default: that of the anchors. Another than theirs is used, and the card notes
        both under ``"fit"`` as ``"overridden"``.
      target_space: the same for the target model.
      card: notes of yours, JSON values, kept in the map's card beside ``"fit"``.
      keep_anchors: anchors of a modality and side that the map keeps, where searches
        compare rows and in half precision, so that offsets can be measured for any new
        index; 0 keeps none. Whoever has the map's file then has these embeddings.
      batch_size: rows a batch.

    Returns:
      The map. ``amap.card["fit"]`` says how it was fitted: family, anchors, rank,
      status, scales, and per modality the residual relative to the target energy. Its
      status is RANK_DEFICIENT where the anchors determine part of the map only, as
      fewer anchors than dimensions do, and NOT_CONVERGED where an iteration did not
      come to rest.

    Warns:
      PoorFitWarning: if half of the anchors, carried by the map of the other half, come
        no nearer to their targets than their mean does; see `maps.poor_fit`.

    Raises:
      ValueError: for rows that do not pair, are not finite or are zero, fewer than two
        anchors, anchors without spread, or an option that does not exist; the text
        names the argument, what came, and what to do.

    Notes:
      The order of rows and the batch size change the result by rounding only, but for
      an MLP. Cost O(n d_source d_target + d^3), with Grams, as by default, about three
      times the former.

    References:
      Gupta, Kansal, Jegelka, Isola, Garg, "Canonicalizing Multimodal Contrastive
      Representation Learning", arXiv 2602.17584.

    >>> source = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]], np.float32)
    >>> amap = fit_map((source, source[:, ::-1]))
    >>> swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> bool(np.allclose(amap.rotation, swap, atol=1e-6)), amap.card["fit"]["status"]
    (True, 'OK')
    """
    call = "fit_map"
    # What costs nothing comes first: rows may be a file of many gigabytes.
    chosen = check_family(call, family, scale)
    check_spaces(call, source_space, target_space)
    check_scorer(call, scorer)
    check_count(call, "batch_size", batch_size)
    keep_anchors = check_count(call, "keep_anchors", keep_anchors, least=0)
    about = Provenance(
        family,
        fit_on,
        chosen,
        scorer,
        source_space=source_space,
        target_space=target_space,
        card=check_card(call, card),
    )
    moments = as_moments(call, anchors)
    if moments is not None:
        check_names(call, "anchors", moments, remedy="pass {'image': moments}")
        if skip_bad:
            raise ArgumentError(
                f"{call}(skip_bad=True)",
                "rows in `anchors`",
                "moments, of which no row can be left out",
                "pass it where they are made: `accumulate_moments(..., skip_bad=True)`",
            )
        return _fit_moments(call, moments, about)
    given = as_anchors(call, anchors, skip_bad=skip_bad)
    amap = _fit_anchors(call, given, about, batch_size)
    return with_anchors(amap, given, keep_anchors)


def _fit_moments(
    call: str, moments: Mapping[Modality, Moments], about: Provenance
) -> AlignmentMap:
    """Fit from what a pass over any number of rows left."""
    family = about.family
    if family.needs == "rows":
        raise need_rows(call, family)
    if not family.tuned:
        raise ArgumentError(
            f"{call}(family={family})",
            "a strength, as moments without groups leave none to hold out",
            remedy="pass one, such as Ridge(0.1), or choose it by `choose_ridge`",
        )
    check_moments(call, moments, family, about.scorer, grouped=False)
    fit_on, weights = weights_of(call, moments, about.fit_on)
    small = small_parts(moments)
    for name, part in small.items():
        check_spread(call, "anchors", name, part)
    pooled = pool_modalities(moments, weights)
    solved = family.solve(pooled)
    facts = facts_of(solved)
    solved = settled(call, solved, facts)
    check_grams(call, moments, solved, facts["kept"], about.scale, weights)
    measured = measure(moments, solved, scale=about.scale)
    about = about._replace(fit_on=fit_on)
    scorer = None if about.scorer is None else about.scorer.solve(pooled)
    scorer = settled_scorer(call, scorer, int(pooled.rows))
    _warn(call, None, pooled, measured, family, weights, about, BATCH_SIZE)
    amap = make_map(call, small, solved, facts, measured, about, scorer)
    return with_sketches(amap, moments)


def _warn(call, anchors, pooled, measured, family, weights, about, batch_size) -> None:
    """Warn of a fit that says nothing of new rows."""
    known = [measured[name].residual for name in weights]
    residual = max(np.inf if one is None else float(one) for one in known)
    warn_if_poor(
        call,
        anchors,
        pooled,
        family,
        weights,
        residual,
        about.scale,
        batch_size=batch_size,
    )


def _fit_anchors(
    call: str, anchors: Anchors, about: Provenance, batch_size: int
) -> AlignmentMap:
    """Fit on rows: tune and reweight first where the family asks for it."""
    family = about.family
    fit_on, weights = weights_of(call, anchors.modalities, about.fit_on)
    family.check_widths(call, *anchors.widths)
    about = _noted(about, anchors, fit_on)
    if family.needs == "rows" or not family.tuned:
        # Fitted on single rows, on the host and without those left out.
        anchors = anchors.on_host()
    if isinstance(family, Robust):
        anchors, notes = family.reweight(anchors, weights)
        about = about._replace(notes={**about.notes, **notes})
        family = family.inner
    if not family.tuned:
        family = family.tune(_fold_moments(call, anchors, weights, batch_size))
        about = about._replace(family=_with_inner(about.family, family))
    by_rows = family.needs == "rows"
    grams = about.scorer is not None or (
        not by_rows and _takes_grams(family, about.scale, anchors, weights)
    )
    moments = anchors.moments(grams=grams, batch_size=batch_size)
    small = small_parts(moments)
    for name, part in small.items():
        check_spread(call, "anchors", name, part)
    pooled = pool_modalities(moments, weights)
    if by_rows:
        solved = family.fit(anchors, moments, weights, batch_size=batch_size)
    else:
        solved = family.solve(pooled)
    facts = facts_of(solved)
    solved = settled(call, solved, facts)
    kept = facts["kept"]
    short = kept is not None and kept < min(anchors.widths)
    if short and about.scale == "energy" and not grams and not by_rows:
        # Anchors that repeat, or lie in a subspace: known only now.
        moments = anchors.moments(grams=True, batch_size=batch_size)
    measured = _measured(anchors, moments, solved, weights, about.scale, batch_size)
    scorer = None if about.scorer is None else about.scorer.solve(pooled)
    scorer = settled_scorer(call, scorer, int(pooled.rows))
    _warn(call, anchors, pooled, measured, family, weights, about, batch_size)
    amap = make_map(call, small, solved, facts, measured, about, scorer)
    return with_sketches(amap, moments)


def _takes_grams(family: Family, scale: Scale, anchors: Anchors, weights) -> bool:
    """Tell whether a fit on anchors accumulates Gram matrices.

    An isometry keeps the energy of rows. Anything else needs the Gram, and so does a
    subspace, which is all that few anchors can determine.
    """
    d_source, d_target = anchors.widths
    most = sum(anchors.rows[name].count - 1 for name in weights)
    few = scale == "energy" and most < min(d_source, d_target)
    return (
        family.needs == "grams" or family.may_be_partial or few or d_source > d_target
    )


def _noted(about: Provenance, anchors: Anchors, fit_on: Any) -> Provenance:
    """Add what the anchors tell to what is noted."""
    notes: dict[str, Any] = {}
    weighted = [name for name, rows in anchors.rows.items() if rows.weights is not None]
    if weighted:
        notes["weighted"] = sorted(weighted)
    overridden = {
        f"{side}_space": {"anchors": own, "given": given}
        for side, own, given in (
            ("source", anchors.source_space, about.source_space),
            ("target", anchors.target_space, about.target_space),
        )
        if None not in (own, given) and not same_space(own, given)
    }
    if overridden:
        notes["overridden"] = overridden
    of_modality: dict[Modality, dict[str, Any]] = {
        name: {"skipped": rows.skipped}
        for name, rows in anchors.rows.items()
        if rows.skipped
    }
    ranges = {name: rows.norm_ranges() for name, rows in anchors.rows.items()}
    for name, sides in anchors.unpaired.items():
        good = [side.norms[side.good] for side in sides.values()]
        source, target = ((float(n.min()), float(n.max())) for n in good)
        ranges[name] = (source, target)
        of_modality[name] = {"unpaired": [len(norms) for norms in good]}
    return about._replace(
        fit_on=fit_on,
        notes=notes,
        source_space=about.source_space or anchors.source_space,
        target_space=about.target_space or anchors.target_space,
        norm_ranges=ranges,
        of_modality=of_modality,
    )


def _measured(
    anchors: Anchors,
    moments: Mapping[Modality, Moments],
    solved: Solved,
    weights: Mapping[Modality, float],
    scale: Scale,
    batch_size: int,
) -> dict[Modality, Measured]:
    """Scale and residual of every modality, by moments or by rows."""
    without_grams = moments[next(iter(weights))].source_gram is None
    by_rows = solved.structure == "residual" or (
        solved.structure == "general" and without_grams
    )
    paired = {name: moments[name] for name in anchors.rows}
    if by_rows:
        found = {
            name: Measured(
                *measure_rows(
                    anchors.rows[name], part, solved, scale=scale, batch_size=batch_size
                )
            )
            for name, part in paired.items()
        }
    else:
        found = measure(paired, solved, scale=scale)
    unpaired = {name: moments[name] for name in anchors.unpaired}
    if unpaired and scale == "energy" and not by_rows:
        alone = measure(unpaired, solved, scale=scale)
        return found | {name: Measured(one.scale, None) for name, one in alone.items()}
    # Without pairs there is no best factor: that of the fitted modality.
    of_fitted = found[next(iter(weights))].scale
    return found | dict.fromkeys(unpaired, Measured(of_fitted, None))


def _fold_moments(
    call: str, anchors: Anchors, weights: Mapping[Modality, float], batch_size: int
) -> list[Moments]:
    """Moments of disjoint folds of the anchors; each fold pools the modalities."""
    rows = {name: anchors.rows[name] for name in weights}
    fewest = min(map(len, rows.values()))
    fold_of_row = fold_rows(rows, FOLDS)
    count = 1 + max(int(numbers.max()) for numbers in fold_of_row.values())
    if fewest < 2 * FOLDS or count < 2:
        raise ArgumentError(
            f"{call}(family=...)",
            f"at least {2 * FOLDS} anchors, in 2 folds or more of whole groups, to "
            "choose a strength on",
            f"{fewest} anchors, {count} fold{'s' * (count != 1)}",
            "pass one, such as Ridge(0.1)",
        )
    folds = []
    for fold in range(count):
        own = anchors.take(
            {name: np.flatnonzero(of == fold) for name, of in fold_of_row.items()}
        )
        parts = own.moments(grams=True, batch_size=batch_size)
        folds.append(pool_modalities(parts, weights))
    return folds


def _with_inner(outer: Family, inner: Family) -> Family:
    """The family as it was fitted, inside the robust one that it came in."""
    return Robust(inner, outer.loss) if isinstance(outer, Robust) else inner
