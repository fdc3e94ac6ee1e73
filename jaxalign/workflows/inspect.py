# SPDX-License-Identifier: Apache-2.0
"""What a file or a folder holds, on one screen: a map, or rows wherever they live."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxalign.rows import RowSet, open_rows
from jaxalign.workflows.lines import wrap

CALL = "jaxalign inspect"


class Inspected(NamedTuple):
    """What was found.

    Attributes:
      lines: for people.
      facts: JSON values.
    """

    lines: list[str]
    facts: dict[str, Any]


def inspect(reference: str) -> Inspected:
    """Look into a map's file, or at the headers of rows.

    Raises:
      FileNotFoundError: if there is nothing of that name.
      ValueError: if it is neither a map nor rows.
    """
    if _is_map(reference):
        return _inspect_map(reference)
    return _inspect_rows(open_rows(reference, call=CALL, argument="PATH"))


def _is_map(reference: str) -> bool:
    """Tell a map from other safetensors files by its header."""
    path = Path(reference)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    import safetensors

    from jaxalign.maps.file import FORMAT_NAME

    try:
        with safetensors.safe_open(path, framework="numpy") as opened:
            found = (opened.metadata() or {}).get("format", "")
    except (safetensors.SafetensorError, OSError):
        return False
    return found.startswith(FORMAT_NAME)


def _inspect_map(reference: str) -> Inspected:
    """Say what a map does, how it was fitted, and whether it can be used."""
    from jaxalign.maps.alignment_map import AlignmentMap
    from jaxalign.maps.kept_pairs import pairs_path

    amap = AlignmentMap.load(reference)
    card = amap.card
    fit: Mapping[str, Any] = card.get("fit", {})
    family = fit.get("family", {})
    name = family.get("name", "unknown") if isinstance(family, Mapping) else family
    kind = amap.structure.replace("_", " ")
    lines = [
        f"{reference}: a map of rows, {amap.d_source} -> {amap.d_target} ({kind}, "
        f"family {name}, rank {fit.get('rank', 'unknown')})"
    ]
    verdict = card.get("verdict")
    if isinstance(verdict, Mapping):
        lines += wrap(f"verdict: {verdict.get('sentence', verdict.get('word'))}")
    else:
        lines.append("verdict: none on file; jaxalign evaluate MAP SOURCE TARGET")
    if "choice" in card:
        lines += wrap(str(card["choice"]).split("; anchors that")[0])
    if amap.scorer is not None:
        of = fit.get("scorer", {}).get("name", "unknown")
        lines.append(f"for searches: a scorer of width {amap.scorer.width} ({of})")
    modalities = {}
    for one in amap.modalities:
        told = fit.get("modalities", {}).get(one, {})
        norms = amap.numbers.source_norms
        low, _, high = [None] * 3 if norms is None else norms[one].tolist()
        kept = amap.encoded.get(one, {}).get("source")
        modalities[one] = {
            "anchors": told.get("anchors"),
            "residual": told.get("relative_residual"),
            "skipped": told.get("skipped", 0),
            "scale": float(amap.numbers.scales[one]),
            "norms": [low, high],
            "kept_anchors": 0 if kept is None else len(kept),
        }
        lines.append(f"{one}: {_modality_line(modalities[one])}")
    spaces = {"source": amap.source_space, "target": amap.target_space}
    shown = [space[:16] if space else "unknown" for space in spaces.values()]
    lines.append(f"spaces: {shown[0]} -> {shown[1]}")
    beside = pairs_path(reference)
    if beside.is_file():
        lines.append(f"beside it: {beside}, for jaxalign fit --add={reference}")
    notes = sorted(set(card) - {"fit", "verdict", "choice", "candidate", "purpose"})
    if notes:
        lines.append(f"notes in its card: {', '.join(notes)}")
    facts = {
        "kind": "map",
        "structure": amap.structure,
        "widths": [amap.d_source, amap.d_target],
        "fingerprint": amap.fingerprint,
        "modalities": modalities,
        "scorer": None if amap.scorer is None else amap.scorer.width,
        "spaces": spaces,
        "card": dict(card),
    }
    return Inspected(lines, facts)


def _modality_line(facts: Mapping[str, Any]) -> str:
    """Say what a map knows of one modality."""
    parts = []
    if facts["anchors"] is not None:
        parts.append(f"{facts['anchors']:,} anchors")
    if facts["skipped"]:
        parts.append(f"{facts['skipped']:,} left out")
    if facts["residual"] is not None:
        parts.append(f"{100 * facts['residual']:.1f} % of the spread left")
    parts.append(f"scale {facts['scale']:.3g}")
    low, high = facts["norms"]
    if low is not None:
        parts.append(f"norms {low:.3g} to {high:.3g}")
    if facts["kept_anchors"]:
        parts.append(f"{facts['kept_anchors']:,} anchors kept in the file")
    return ", ".join(parts)


def _inspect_rows(rows: RowSet) -> Inspected:
    """Say what rows there are; none of them is read."""
    lines = [f"{rows.reference}: {rows.kind}, {len(rows):,} rows"]
    lines += [
        f"{name}: width {of.shape[1]:,}, {of.dtype.name}"
        for name, of in rows.rows.items()
    ]
    columns = _columns(rows)
    if columns:
        lines.append(f"columns: {', '.join(columns)}")
    ids = "yes" if rows.has_ids else "no"
    if not rows.has_ids and columns:
        ids = "none; one of the columns may hold them: --id_column="
    lines.append(f"ids: {ids}")
    lines.append(f"space: {rows.space or 'unknown'}")
    lines.append(f"More: jaxalign doctor {rows.reference}")
    facts = {
        "kind": rows.kind,
        "rows": len(rows),
        "modalities": {
            name: {"width": of.shape[1], "dtype": of.dtype.name}
            for name, of in rows.rows.items()
        },
        "columns": columns,
        "ids": rows.has_ids,
        "space": rows.space,
        "fingerprint": rows.fingerprint(),
    }
    return Inspected(lines, facts)


def _columns(rows: RowSet) -> list[str]:
    """Names of the metadata's columns."""
    if rows.kind == "store":
        from jaxalign.rows.own_store import StoreRowSet

        assert isinstance(rows, StoreRowSet)
        return list(rows.store.columns)
    if rows.kind == "folder":
        from jaxalign.rows.folder import FolderRowSet
        from jaxalign.rows.parquet_columns import open_table

        assert isinstance(rows, FolderRowSet)
        files = [part.metadata for part in rows.parts if part.metadata is not None]
        if files:
            return open_table(CALL, rows.place.child(files[0])).schema.names
    return []
