# SPDX-License-Identifier: Apache-2.0
"""Which rows a map takes: are these of its source side, and how long should they be?"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxalign.errors import ArgumentError
from jaxalign.families.scorer import Side
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.sketch import fits_other_side, left_over, unit_scale
from jaxalign.rows import RowSet
from jaxalign.search.use import Use
from jaxalign.spaces import same_space

# Half precision moves the norm of a unit row by less.
_UNIT_WITHIN = 1e-2

_SIDES: tuple[Side, Side] = ("source", "target")

STRANGE = 2.5
"""Rows are unlike a map's anchors if its sketch leaves so many times as much of them.

Of held-out rows of real models it leaves 1.1 to 1.6 times as much, of another modality
of the same model 3 to 5 times, of another model 4 times and more.
"""


class SideFit(NamedTuple):
    """How rows fit the two sides of a map: about 1 like the anchors, more unlike them.

    Attributes:
      own: by the sketch of the side that they are taken for.
      other: by that of the other side; None where the widths differ.
    """

    own: float
    other: float | None

    @property
    def swapped(self) -> bool:
        """Whether they are clearly rows of the other side."""
        return self.other is not None and fits_other_side(self.own, self.other)

    @property
    def strange(self) -> bool:
        """Whether they are like neither."""
        return self.own > STRANGE and not self.swapped


def compare_sides(
    amap: AlignmentMap,
    rows: Float[np.ndarray, "n d"],
    modality: str,
    *,
    side: Side = "source",
) -> SideFit | None:
    """Compare rows with the sketches of both sides, whatever their norms.

    Args:
      amap: the map.
      rows: ``(n, d)``, a sample.
      modality: of the map.
      side: which they are taken for.

    Returns:
      How they fit; None for a map without sketches, or no row.
    """
    numbers, sketches = amap.numbers, amap.sketch.get(modality)
    known, reached = numbers.source_norms, numbers.target_norms
    if not sketches or known is None or reached is None or not len(rows):
        return None
    found: list[float | None] = []
    for of_side, means, of in zip(
        _SIDES,
        (numbers.source_means, numbers.target_means),
        (known, reached),
        strict=True,
    ):
        mean = means[modality]
        if mean.shape[0] != rows.shape[1]:
            found.append(None)
            continue
        scaled = unit_scale(rows, float(of[modality][1]))
        found.append(left_over(sketches[of_side], mean, scaled))
    own, other = found if side == "source" else reversed(found)
    return None if own is None or not np.isfinite(own) else SideFit(own, other)


def modality_of(amap: AlignmentMap, name: str) -> str | None:
    """The map's modality for rows of this name: a map of "rows" takes any one matrix.

    Returns:
      None where the map has none for them.
    """
    if name in amap.modalities:
        return name
    lone = len(amap.modalities) == 1 and "rows" in (name, amap.modalities[0])
    return amap.modalities[0] if lone else None


def takes_unit_rows(amap: AlignmentMap) -> bool:
    """Whether rows go into a map at norm 1: a fit says so, or its anchors' norms do."""
    told = amap.card.get("rows")
    if isinstance(told, Mapping) and "normalized" in told:
        return bool(told["normalized"])
    if amap.numbers.source_norms is None:
        return False
    norms = [np.asarray(of, np.float64) for of in amap.numbers.source_norms.values()]
    return all(np.all(np.abs(of - 1) < _UNIT_WITHIN) for of in norms)


def check_row_spaces(
    call: str,
    amap: AlignmentMap,
    source: RowSet,
    target: RowSet | None = None,
    *,
    argument: str = "SOURCE",
) -> None:
    """Raise for rows whose width or known space is not that of the map's side.

    Args:
      call: named in errors.
      amap: the map.
      source: rows of its source side.
      target: rows of its target side, or None.
      argument: that named `source`.
    """
    sides = [(argument, source, amap.d_source, amap.source_space)]
    if target is not None:
        sides.append(("TARGET", target, amap.d_target, amap.target_space))
    for name, rows, width, space in sides:
        found = next(iter(rows.rows.values())).shape[1]
        other = amap.d_source if name == "TARGET" else amap.d_target
        if found != width:
            remedy = "these are rows of another model than the map's"
            if found == other:
                remedy = "swap the two sides, or use the map of the other direction"
            raise ArgumentError(f"{call} {name}", f"width {width}", found, remedy)
        known = None not in (rows.space, space)
        if known and not same_space(rows.space, space):
            raise ArgumentError(
                f"{call} {name}",
                f"rows of the space {str(space)[:16]}",
                f"{str(rows.space)[:16]}",
                "embed with the map's own model",
            )


def check_side(
    call: str,
    amap: AlignmentMap,
    rows: Float[np.ndarray, "n d"],
    name: str,
    *,
    side: Side = "source",
) -> SideFit | None:
    """Raise for rows that clearly fit the map's other side better.

    Args:
      call: named in errors, with the argument.
      amap: the map.
      rows: ``(n, d)``, a sample.
      name: their modality.
      side: which they are taken for.

    Returns:
      How they fit, see `compare_sides`.
    """
    own = modality_of(amap, name)
    fit = None if own is None else compare_sides(amap, rows, own, side=side)
    if fit is not None and fit.swapped:
        words = "rows" if name == "rows" else f"{name} rows"
        raise ArgumentError(
            call,
            f"rows of the map's {side} model",
            f"{words} that fit its {'target' if side == 'source' else 'source'} "
            "model better",
            "swap the sides, or use the map of the other direction",
        )
    return fit


def use_of(amap: AlignmentMap) -> Use | None:
    """The use that was chosen with the map, or None."""
    told = amap.card.get("candidate")
    return Use(**told["use"]) if isinstance(told, Mapping) and "use" in told else None
