# SPDX-License-Identifier: Apache-2.0
"""How well a finished map does on new pairs of rows."""

import warnings
from typing import NamedTuple

from jaxalign.compilation_cache import use_compilation_cache
from jaxalign.errors import ArgumentError
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.rows.matching import Match
from jaxalign.trust.of_map import judge_map
from jaxalign.trust.verdict import Verdict
from jaxalign.workflows.map_input import (
    check_row_spaces,
    check_side,
    takes_unit_rows,
    use_of,
)
from jaxalign.workflows.pairs import PairCounts, read_pairs
from jaxalign.workflows.progress import working
from jaxalign.workflows.sides import check_bad, open_sides

CALL = "jaxalign evaluate"


class Evaluated(NamedTuple):
    """What an evaluation gave.

    Attributes:
      verdict: on the new pairs.
      counts: what became of the rows that were read.
    """

    verdict: Verdict
    counts: PairCounts


def evaluate(
    map_path: str,
    source: str,
    target: str,
    *,
    modality: str | None = None,
    id_column: str | None = None,
    match: Match = "auto",
    skip_bad: bool = False,
) -> Evaluated:
    """Judge a map on pairs that it was not fitted on.

    Args:
      map_path: of the map.
      source: reference to rows of the source model, see `open_rows`.
      target: the same for the target model.
      modality: of two lone matrices; of folders it selects one.
      id_column: with ids, of parquet files and foreign folders.
      match: how rows are paired.
      skip_bad: accept any number of pairs with a bad row.

    Raises:
      ValueError: for files that cannot be read or are not of the map's models.
    """
    amap = AlignmentMap.load(map_path)
    (sides,) = open_sides(
        source,
        target,
        modality=modality,
        id_column=id_column,
        match=match,
        call=CALL,
    )
    check_row_spaces(CALL, amap, sides.source, sides.target)
    if sides.origin() in amap.card.get("rows", {}).get("origins", ()):
        warnings.warn(
            "the map was fitted on these very pairs, and does better on them than on "
            "new ones",
            stacklevel=2,
        )
    use_compilation_cache()
    kept, counts = read_pairs(
        [sides], normalize=takes_unit_rows(amap), sample_only=True, call=CALL
    )
    names = list(kept.samples)
    if len(names) > 1:
        raise ArgumentError(
            CALL, "pairs of one modality", ", ".join(names), "write --modality="
        )
    (name,) = names
    check_bad(counts[name].skipped, counts[name].read, skip_bad)
    check_side(f"{CALL} SOURCE", amap, kept.samples[name].source, name)
    of_map = name if name in amap.modalities else None
    with working("Searching new pairs"):
        verdict = judge_map(amap, kept.anchors(CALL), of_map, use=use_of(amap))
    return Evaluated(verdict, counts[name])
