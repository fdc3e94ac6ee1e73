# SPDX-License-Identifier: Apache-2.0
"""Options that every fit of maps shares, validated before any arithmetic."""

import numbers
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from jaxalign.anchors.anchors import ALL, ROWS
from jaxalign.array_types import Modality
from jaxalign.errors import ArgumentError, check_option
from jaxalign.families.family import Family, Solved
from jaxalign.families.scorer import ScorerFamily
from jaxalign.moments import Moments
from jaxalign.solve.scale import SCALES, Scale


def check_family(call: str, family: Any, scale: Scale | None) -> Scale:
    """Validate a family and a scale; return the scale, by default the family's."""
    if not isinstance(family, Family):
        remedy = "pass one of `ja.families`, such as `ja.Orthogonal()`"
        if hasattr(family, "shape"):
            remedy = f"two matrices are one pair: `{call}((source_rows, target_rows))`"
        got = family if isinstance(family, str | type) else type(family).__name__
        raise ArgumentError(f"{call}(family=...)", "a family of maps", got, remedy)
    if scale is None:
        return family.default_scale
    check_option(call, "scale", scale, SCALES)
    return scale


def check_scorer(call: str, scorer: Any) -> None:
    """Raise for what is neither a family of scorers nor None."""
    if scorer is None or isinstance(scorer, ScorerFamily):
        return
    remedy = "pass ja.LikelihoodRatio(), or leave it out"
    if isinstance(scorer, Family):
        remedy = f"a family of maps goes first: `{call}(anchors, {scorer})`"
    got = scorer if isinstance(scorer, str | type) else type(scorer).__name__
    raise ArgumentError(f"{call}(scorer=...)", "a family of scorers", got, remedy)


def weights_of(
    call: str, modalities: Iterable[Modality], fit_on: Any
) -> tuple[Any, dict[Modality, float]]:
    """Resolve what a matrix is fitted on: a name to note, and weights by modality.

    Args:
      call: named in errors.
      modalities: that have pairs.
      fit_on: a modality, "all", weights by modality, or None: the only modality, else
        "image".

    Raises:
      ValueError: for unknown modalities, no positive weight, or None where several
        modalities could be meant.
    """
    names = list(modalities)
    if fit_on is None:
        if len(names) > 1 and "image" not in names:
            raise ArgumentError(
                f"{call}(fit_on=None)",
                f"{ALL!r} or one of {names}, as there are several modalities and "
                "'image' is not among them",
                remedy="name the one to fit on",
            )
        fit_on = "image" if "image" in names else names[0]
    if isinstance(fit_on, Mapping):
        sizes = [_is_size(weight) for weight in fit_on.values()]
        kept = {n: float(w) for n, w in fit_on.items() if all(sizes) and w > 0}
        if not kept or not set(fit_on) <= set(names):
            raise ArgumentError(
                f"{call}(fit_on={fit_on!r})",
                f"finite weights of at least 0 by modality, of {names}, one or more of "
                "them positive",
                remedy="pass {'image': 1.0, 'text': 2.0}; a modality that is left out "
                "has no part in the matrix",
            )
        return kept, kept
    if fit_on != ALL and fit_on not in names:
        raise ArgumentError(
            f"{call}(fit_on={fit_on!r})",
            f"{ALL!r} or one of {names}",
            remedy="add pairs of that modality, or name another",
        )
    return fit_on, dict.fromkeys(names if fit_on == ALL else [fit_on], 1.0)


def as_moments(call: str, given: Any) -> dict[Modality, Moments] | None:
    """Return moments by modality; None for anything else, such as rows."""
    if isinstance(given, Moments):
        return {ROWS: given}
    if not isinstance(given, Mapping) or not any(
        isinstance(part, Moments) for part in given.values()
    ):
        return None
    for name, part in given.items():
        if not isinstance(part, Moments) or name == ALL:
            raise ArgumentError(
                f"{call}(anchors[{name!r}])",
                f"Moments by modality, {ALL!r} not among them",
                type(part).__name__,
                "pass {'image': moments}",
            )
    return dict(given)


def check_moments(
    call: str,
    moments: Mapping[Modality, Moments],
    family: Family,
    scorer: ScorerFamily | None,
    *,
    grouped: bool,
) -> tuple[int, int]:
    """Validate what a fit asks of moments; return their widths."""
    widths = None
    for name, part in moments.items():
        argument = f"{call}({'moments' if grouped else 'anchors'}[{name!r}])"
        if bool(part.groups) != grouped:
            remedy = "merge the groups by `reduce_groups`"
            raise ArgumentError(
                argument,
                f"Moments {'with' if grouped else 'without'} groups",
                part.groups,
                "accumulate them with groups" if grouped else remedy,
            )
        found = (part.d_source, part.d_target)
        if widths is not None and found != widths:
            raise ArgumentError(
                argument,
                f"widths {widths} as of the other modalities",
                found,
                "all modalities share one source and one target model",
            )
        widths = found
        why = family.describe() if family.needs == "grams" else None
        if scorer is not None:
            why = f"a scorer ({scorer.describe()})"
        if part.d_source > part.d_target:
            why = why or f"a map from width {part.d_source} to {part.d_target}"
        if why and part.source_gram is None:
            raise ArgumentError(
                argument,
                f"Gram matrices, which the fit of {why} takes",
                "none",
                "make them by `init_moments(..., grams=True)`",
            )
    assert widths is not None
    family.check_widths(call, *widths)
    return widths


def check_grams(
    call: str,
    moments: Mapping[Modality, Moments],
    solved: Solved,
    kept: Any,
    scale: Scale,
    fitted: Collection[Modality],
) -> None:
    """Raise for moments without Grams if the scale of what was solved takes them.

    The rank decides, so that this comes after the solve. An isometry keeps the energy
    of rows, and a map without a scale needs none. Else "energy" compares the rows on
    the directions that the anchors determine.

    Args:
      call: named in errors.
      moments: by modality, batched as `solved`.
      solved: of a solve that succeeded, as `settled` gives it.
      kept: how many directions are determined and kept, on the host; None: all.
      scale: the rule.
      fitted: modalities that the matrix was fitted on.
    """
    whole = min(solved.matrix.shape[-2:])
    isometry = solved.structure == "isometry"
    fewest = whole if kept is None else int(np.min(kept))
    short = fewest < whole
    if scale == "none" or (isometry and not (short and scale == "energy")):
        return
    for name, part in moments.items():
        if part.source_gram is not None:
            continue
        if isometry and {name} == set(fitted):
            # n anchors that determine n - 1 directions lie in them: nothing is left
            # out, and the whole energy is that of the part.
            full = np.minimum(np.asarray(part.rows) - 1, whole)
            if np.all(kept == full):
                continue
        what = "a matrix that is no isometry"
        if short:
            what = f"a fit of {fewest} of {whole} directions"
        raise ArgumentError(
            f"{call}({'moments' if part.groups else 'anchors'}[{name!r}])",
            f"moments with Gram matrices, which scale={scale!r} takes for {what}",
            "none",
            "accumulate them by `init_moments(..., grams=True)`, or pass scale='none'",
        )


def _is_size(value) -> bool:
    """Tell whether a value is a finite number of at least 0."""
    return isinstance(value, numbers.Real) and 0 <= float(value) < float("inf")
