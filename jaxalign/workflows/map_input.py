# SPDX-License-Identifier: Apache-2.0
"""Which rows a map takes: are these of its source side, and how long should they be?"""

from collections.abc import Mapping

import numpy as np

from jaxalign.errors import ArgumentError
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.rows import RowSet

# Half precision moves the norm of a unit row by less.
_UNIT_WITHIN = 1e-2


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
        if None not in (rows.space, space) and rows.space != space:
            raise ArgumentError(
                f"{call} {name}",
                f"rows of the space {str(space)[:16]}",
                f"{str(rows.space)[:16]}",
                "embed with the map's own model",
            )
