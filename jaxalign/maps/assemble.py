# SPDX-License-Identifier: Apache-2.0
"""The end of every fit: scales and residuals are measured, the card is written."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign._version import __version__
from jaxalign.array_types import Modality
from jaxalign.errors import ArgumentError
from jaxalign.families.family import Family, Solved
from jaxalign.families.scorer import Scorer, ScorerFamily
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.norms import anchor_norms
from jaxalign.maps.numbers import MapNumbers
from jaxalign.maps.sketch import sketch_moments
from jaxalign.moments import Moments
from jaxalign.solve.scale import Scale, fit_scale, map_residual
from jaxalign.status import Status, check_status

# Root mean square distance of rows from their mean, relative to their norm, below which
# they count as equal: half precision moves equal rows by up to 5e-4, and the rows of
# real models lie at 0.3 to 1.
LEAST_SPREAD = 1e-3


class Measured(NamedTuple):
    """Scale and relative residual of one modality; None: no pairs tell the residual."""

    scale: Any
    residual: Any


class Provenance(NamedTuple):
    """What a fit notes beside the numbers.

    Attributes:
      family: as it was fitted, with its strength.
      fit_on: the modality, "all", or weights.
      scale: the rule.
      scorer: the family of the scorer, or None.
      notes: of the fit, for the card.
      source_space: see `AlignmentMap`.
      target_space: see `AlignmentMap`.
      card: the user's.
      norm_ranges: by modality, smallest and largest norm of the anchors of each side,
        where rows were at hand.
      of_modality: by modality, more for the card.
    """

    family: Family
    fit_on: Any
    scale: Scale
    scorer: ScorerFamily | None = None
    notes: Mapping[str, Any] = {}
    source_space: str | None = None
    target_space: str | None = None
    card: Mapping[str, Any] | None = None
    norm_ranges: Mapping[Modality, Any] = {}
    of_modality: Mapping[Modality, Mapping[str, Any]] = {}


def facts_of(solved: Solved) -> dict[str, Any]:
    """Read what decides how to go on, in one transfer: status, rank, notes."""
    kept = None if solved.directions is None else solved.directions.rank
    return jax.device_get(
        {
            "status": solved.status,
            "rank": solved.rank,
            "kept": kept,
            "notes": solved.notes,
        }
    )


def settled(call: str, solved: Solved, facts: Mapping[str, Any]) -> Solved:
    """Raise for a solve that failed; a partial isometry of full rank is an isometry."""
    check_status(
        np.asarray(facts["status"]),
        call=call,
        allow=[Status.RANK_DEFICIENT, Status.NOT_CONVERGED],
    )
    whole = min(solved.matrix.shape[-2:])
    if solved.structure == "partial_isometry" and np.all(facts["kept"] == whole):
        return dataclasses.replace(solved, structure="isometry")
    return solved


def measure(
    moments: Mapping[Modality, Moments], solved: Solved, *, scale: Scale
) -> dict[Modality, Measured]:
    """Scale of every modality, and its residual relative to the target energy.

    Batched over leading axes that `moments` and `solved` share.
    """
    isometry = solved.structure == "isometry"
    # Names of modalities would be part of the program.
    found = _measure(
        list(moments.values()),
        solved.matrix,
        solved.directions,
        scale=scale,
        isometry=isometry,
    )
    return dict(zip(moments, found, strict=True))


@functools.partial(jax.jit, static_argnames=("scale", "isometry"))
def _measure(moments, matrix, within, *, scale, isometry) -> list[Measured]:
    """Measure one set of moments after the other."""

    def one(part):
        # Without Grams the whole energy is that of the part: see `check_grams`.
        kept = None if part.source_gram is None else within
        factor = fit_scale(part, matrix, scale=scale, isometry=isometry, within=kept)
        residual = map_residual(part, matrix, factor, isometry=isometry)
        return Measured(factor, residual / part.target_energy)

    return [one(part) for part in moments]


def make_map(
    call: str,
    moments: Mapping[Modality, Moments],
    solved: Solved,
    facts: Mapping[str, Any],
    measured: Mapping[Modality, Measured],
    about: Provenance,
    scorer: Scorer | None = None,
) -> AlignmentMap:
    """Put a map together from what was solved and measured.

    Args:
      call: named in errors.
      moments: of every modality, without leading axes, on the host.
      solved: without leading axes.
      facts: of `facts_of`.
      measured: by modality.
      about: what to note.
      scorer: as `solve_scorer` gives it.

    Raises:
      ValueError: for a scale that is not positive.
    """
    of_fit: dict[str, Any] = {
        "family": about.family.to_json(),
        "fit_on": about.fit_on,
        "scale": about.scale,
        "status": Status(int(facts["status"])).name,
        **about.notes,
        **{name: np.asarray(note).item() for name, note in facts["notes"].items()},
    }
    if facts["rank"] is not None:
        of_fit["rank"] = int(facts["rank"])
    if solved.structure == "partial_isometry":
        of_fit["kept"] = int(facts["kept"])
    if about.scorer is not None and scorer is not None:
        told = {"rank": int(scorer.rank), "clipped": int(scorer.clipped)}
        of_fit["scorer"] = about.scorer.to_json() | told
    of_fit["modalities"] = {}
    for name, (factor, residual) in measured.items():
        _check_scale(call, name, float(factor), about.scale)
        left = np.nan if residual is None else float(residual)
        more = about.of_modality.get(name, {})
        of_fit["modalities"][name] = {
            # Rows that do not pair are no anchors: "unpaired" counts them.
            "anchors": 0 if "unpaired" in more else int(moments[name].rows),
            "scale": float(factor),
            "relative_residual": left if np.isfinite(left) else None,
            **more,
        }
    of_fit["jaxalign"] = __version__
    dtype = moments[next(iter(moments))].source_mean.dtype
    norms = [
        {
            name: jnp.asarray(
                anchor_norms(
                    part.count,
                    getattr(part, f"{side}_mean"),
                    getattr(part, f"{side}_energy"),
                    about.norm_ranges.get(name, (None, None))[place],
                )
            )
            for name, part in moments.items()
        }
        for place, side in enumerate(("source", "target"))
    ]
    return AlignmentMap(
        MapNumbers(
            matrix=jnp.asarray(solved.matrix),
            scales={name: jnp.asarray(s, dtype) for name, (s, _) in measured.items()},
            source_means={n: jnp.asarray(p.source_mean) for n, p in moments.items()},
            target_means={n: jnp.asarray(p.target_mean) for n, p in moments.items()},
            source_norms=norms[0],
            target_norms=norms[1],
            residual=solved.residual,
            structure=solved.structure,
        ),
        source_space=about.source_space,
        target_space=about.target_space,
        card={**(about.card or {}), "fit": of_fit},
        scorer=scorer,
    )


def with_sketches(
    amap: AlignmentMap, moments: Mapping[Modality, Moments]
) -> AlignmentMap:
    """Add sketches of the rows of every modality, where the moments hold Grams."""
    sketches = {name: sketch_moments(part) for name, part in moments.items()}
    return dataclasses.replace(
        amap, sketch={name: sides for name, sides in sketches.items() if sides}
    )


def settled_scorer(call: str, scorer: Scorer | None, rows: int) -> Scorer | None:
    """Cut a scorer at its rank, a number of the host; None stays.

    Raises:
      ValueError: for fewer than three anchors, or anchors of rank one: all queries
        would find the rows in one order, or in its reverse.
      SolveError: for moments that are not finite.
    """
    if scorer is None:
        return None
    rank, status = jax.device_get((scorer.rank, scorer.status))
    check_status(np.asarray(status), call=call)
    if rows < 3 or rank < 2:
        raise ArgumentError(
            f"{call}(anchors=..., scorer=...)",
            "three anchors or more, of which rank two is left once they are centred",
            f"{rows} anchors of rank {int(rank)}",
            "pass more anchors that differ and whose sides correlate, or leave the "
            "scorer out",
        )
    return jax.tree.map(jnp.asarray, scorer.cut(int(rank)))


def check_spread(call: str, argument: str, name: Modality, moments: Moments) -> None:
    """Raise unless the moments are finite, and rows of both sides differ.

    Nothing is left of equal rows once they are centred. Rows that an encoder made of
    one input in several batches differ by its rounding alone, which is no spread.

    Args:
      call: named in errors.
      argument: the same.
      name: the modality, named in errors.
      moments: without leading axes, on the host.
    """
    rows = int(moments.rows)
    for side in ("source", "target"):
        about_mean = float(getattr(moments, f"{side}_energy"))
        mean = np.asarray(getattr(moments, f"{side}_mean"))
        in_mean = float(moments.count) * float(np.sum(np.square(mean)))
        if not np.isfinite(about_mean + in_mean):
            raise ArgumentError(
                f"{call}({argument}[{name!r}])",
                f"finite {side} rows",
                f"moments of {rows} rows with NaN or infinity among them",
                "give such pairs weight 0, or pass skip_bad=True where the rows are "
                "accumulated",
            )
        if about_mean <= LEAST_SPREAD**2 * (about_mean + in_mean):
            raise ArgumentError(
                f"{call}({argument}[{name!r}])",
                f"{side} rows that differ",
                f"{rows} rows that are equal, or nearly so: they lie about their mean "
                f"within {LEAST_SPREAD:g} of their norm",
                "pass embeddings of different inputs",
            )


def check_card(call: str, card: Any) -> dict[str, Any]:
    """Return the user's notes as JSON values."""
    if card is not None and not isinstance(card, Mapping):
        raise ArgumentError(
            f"{call}(card=...)",
            "a dictionary",
            type(card).__name__,
            "pass {'note': ...}",
        )
    if "fit" in (card or {}):
        raise ArgumentError(
            f"{call}(card=...)",
            "no entry 'fit', which the fit writes itself",
            remedy="give yours another name",
        )
    try:
        return json.loads(json.dumps(dict(card or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"{call}(card=...)",
            "JSON values",
            error,
            "pass strings, numbers, lists and dictionaries",
        ) from error


def small_parts(moments: Mapping[Modality, Moments]) -> dict[Modality, Moments]:
    """Bring all but the matrices to the host, in one transfer."""
    return jax.device_get(
        {
            name: dataclasses.replace(
                part, cross_covariance=None, source_gram=None, target_gram=None
            )
            for name, part in moments.items()
        }
    )


def _check_scale(call, name, factor, scale) -> None:
    """Raise for a scale with which the map cannot carry that modality at all."""
    if not (np.isfinite(factor) and factor > 0):
        raise ArgumentError(
            f"{call}(scale={scale!r})",
            f"a positive scale for {name!r}",
            f"{factor:.3g}: the map does not correlate with these pairs",
            "check that their rows pair, or pass scale='none'",
        )
