# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a file of rows, or strange for a map, and what to do about it."""

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from jaxalign.rows import RowSet, open_rows
from jaxalign.spaces import same_space
from jaxalign.trust.row_health import Faulty, RowHealth, examine_rows
from jaxalign.workflows.progress import progress

if TYPE_CHECKING:
    from jaxalign.maps.alignment_map import AlignmentMap

BATCH_SIZE = 8192
# Half precision moves the norm of a unit row by less.
_UNIT_WITHIN = 1e-2
_NOTHING = Faulty(0, ())


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that a user should know.

    Attributes:
      name: for programs, such as "not_finite".
      level: "problem": a map will do badly or refuse; "note": worth knowing.
      modality: of the rows.
      text: what was found.
      advice: what to do.
      count: rows or columns that it is about, or None.
      first: numbers of the first few of these.
    """

    name: str
    level: Literal["problem", "note"]
    modality: str
    text: str
    advice: str
    count: int | None = None
    first: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Examination:
    """What a look at all rows gave.

    Attributes:
      rows: the rows.
      health: by modality.
      findings: the problems first.
    """

    rows: RowSet
    health: dict[str, RowHealth]
    findings: list[Finding]


def examine(
    reference: str,
    *,
    map_path: str | None = None,
    modality: str | None = None,
    call: str = "jaxalign doctor",
) -> Examination:
    """Look at all rows that a reference names, alone or as rows for a map.

    Args:
      reference: see `open_rows`.
      map_path: of a map, to whose source side the rows should belong.
      modality: of a lone matrix; of a folder it selects one.
      call: named in errors.

    Raises:
      ValueError: for a reference or a map that cannot be read.
    """
    amap = None if map_path is None else _load(map_path)
    rows = open_rows(reference, modality=modality, call=call, argument="ROWS")
    health, findings = {}, []
    for name, of in rows.rows.items():
        title = f"Looking at {name} rows"
        with progress(title, len(rows), "rows") as report:
            health[name] = examine_rows(
                of.batches(BATCH_SIZE),
                rows=len(rows),
                width=of.shape[1],
                report=report,
            )
        findings += _of_rows(name, health[name], of.dtype)
        if amap is not None:
            findings += _for_map(name, health[name], rows, amap)
    findings.sort(key=lambda one: one.level == "note")
    return Examination(rows, health, findings)


def _load(path: str) -> "AlignmentMap":
    """Read a map; without one, JAX is not loaded."""
    from jaxalign.maps.alignment_map import AlignmentMap

    return AlignmentMap.load(path)


def _of_rows(name: str, health: RowHealth, dtype: np.dtype) -> list[Finding]:
    """What the rows alone tell."""
    found = []

    def add(key, level, text, advice, faulty: Faulty = _NOTHING) -> None:
        first = f" (first: rows {', '.join(map(str, faulty.first))})"
        text += first if faulty.first else ""
        count = faulty.count or None
        found.append(Finding(key, level, name, text, advice, count, faulty.first))

    if not health.rows:
        add("empty", "problem", "there are no rows", "embed again")
        return found
    for key, faulty, word in (
        ("not_finite", health.not_finite, "NaN or infinity"),
        ("zero", health.zero, "nothing but zeros"),
    ):
        if faulty.count:
            add(
                key,
                "problem",
                f"{faulty.count:,} of {health.rows:,} rows hold {word}",
                "embed them again; until then `fit` leaves such pairs out, and "
                "`apply` writes NaN for them",
                faulty,
            )
    if health.repeated.count:
        share = health.repeated.count / health.rows
        add(
            "repeated",
            "problem" if share > 0.5 else "note",
            f"{health.repeated.count:,} of {health.compared:,} rows equal an earlier "
            "one",
            "equal rows count as one anchor, and a search cannot tell them apart",
            health.repeated,
        )
    if len(health.constant):
        first = tuple(int(column) for column in health.constant[:5])
        count = len(health.constant)
        add(
            "constant_columns",
            "problem" if count == health.width else "note",
            f"{count:,} of {health.width:,} columns hold one value in every row "
            f"(first: columns {', '.join(map(str, first))})",
            "they tell nothing; see that they are not a label or an index",
        )
    low, typical, high = health.norms
    if low < 1 - _UNIT_WITHIN or high > 1 + _UNIT_WITHIN:
        add(
            "not_normalised",
            "note",
            f"norms from {low:.3g} to {high:.3g} (root mean square {typical:.3g}), "
            "not 1",
            "`fit` and `apply` divide rows by their norms; pass --normalize=none to "
            "both to keep them",
        )
    if dtype.itemsize == 2:
        add(
            "half_precision",
            "note",
            f"stored as {dtype.name}",
            "good enough for a map; keep the originals if you have them",
        )
    elif health.half_values and health.rows > health.bad:
        add(
            "half_precision",
            "note",
            f"stored as {dtype.name}, but every number is a float16",
            "they were half precision once; float16 would halve the file",
        )
    return found


def _for_map(
    name: str, health: RowHealth, rows: RowSet, amap: "AlignmentMap"
) -> list[Finding]:
    """What is strange about the rows for the source side of a map."""
    from jaxalign.workflows.map_input import compare_sides, modality_of

    found = []

    def add(key, text, advice) -> None:
        found.append(Finding(key, "problem", name, text, advice))

    swap = "use the map of the other direction: `amap.inverse()`, or fit it"
    spaces = amap.source_space, amap.target_space
    known = rows.space is not None and spaces[0] is not None
    own_space = same_space(rows.space, spaces[0])
    if known and not own_space and same_space(rows.space, spaces[1]):
        add("swapped", "they are of the space that the map leads to", swap)
        return found
    if known and not own_space:
        add(
            "other_space",
            f"they are of the space {str(rows.space)[:16]}, the map is from "
            f"{str(spaces[0])[:16]}",
            "embed with the map's source model, or fit a map for this one",
        )
    if health.width != amap.d_source:
        text = f"width {health.width:,}; the map takes {amap.d_source:,}"
        if health.width == amap.d_target:
            add("swapped", f"{text} and gives {amap.d_target:,}", swap)
        else:
            add("width", text, "they are of another model than the map's source")
        return found
    own = modality_of(amap, name)
    if own is None:
        text = f"the map holds {', '.join(amap.modalities)}, not {name}"
        add("modality", text, f"fit it with pairs of {name} rows too")
        return found
    fit = compare_sides(amap, health.sample, own)
    if fit is not None and fit.swapped:
        add("swapped", "they fit the model that the map leads to better", swap)
    elif fit is not None and fit.strange and not found:
        add(
            "other_space",
            f"they are unlike the map's anchors: {fit.own:.1f} times as much of them "
            "lies off its sketch of these",
            "they are of another model, modality or domain: fit a map with pairs of it",
        )
    return found
