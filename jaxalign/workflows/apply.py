# SPDX-License-Identifier: Apache-2.0
"""Carry rows on disk to a map's target space, after a look at whether they belong."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxalign.anchors.from_rows import unit_or_zero
from jaxalign.compilation_cache import use_compilation_cache
from jaxalign.errors import ArgumentError, check_option
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.carry import FORMS, Carried, RowEncoder, carry
from jaxalign.maps.kept_pairs import KeptPairs, pairs_path
from jaxalign.maps.norms import check_norms
from jaxalign.rows import RowSet, open_rows
from jaxalign.search.rewrite import PlainCosine
from jaxalign.trust.domain import outside_share
from jaxalign.workflows.map_input import (
    check_row_spaces,
    check_side,
    compare_sides,
    modality_of,
    takes_unit_rows,
)
from jaxalign.workflows.progress import progress

CALL = "jaxalign apply"
SAMPLE = 2048
# Rows of another domain: so many times what held-out anchors leave outside, and at
# least so much.
TIMES_OUTSIDE, LEAST_OUTSIDE = 2.0, 0.02


def apply(
    map_path: str,
    source: str,
    out: str,
    *,
    form: Literal["rows", "search"] = "rows",
    queries: str | None = None,
    dtype: str | None = None,
    modality: str | None = None,
    normalize: bool | None = None,
    force: bool = False,
    overwrite: bool = False,
) -> Carried:
    """Carry all rows of a reference into a new file or folder of the same format.

    Args:
      map_path: of the map.
      source: reference to rows of the map's source model, see `open_rows`.
      out: path of the output.
      form: "rows" of the target space; or for "search", by plain cosine and untouched
        rows of the target model, see `search.rewrite_rows`.
      queries: of "search": reference to target rows that stand for queries. Default:
        those that the fit kept beside its map.
      dtype: of the output; None: that of the input.
      modality: of a lone matrix; of a folder it selects one.
      normalize: divide rows by their norms before and after; None: as the map was
        fitted.
      force: carry rows that fit the map's other side better.
      overwrite: replace an output that is there.

    Returns:
      What was written.

    Raises:
      ValueError: for rows or a map that cannot be read or do not belong together, and
        an output that cannot be written: before the first row is carried.
    """
    check_option(CALL, "--for", form, FORMS)
    amap = AlignmentMap.load(map_path)
    rows = open_rows(source, modality=modality, call=CALL, argument="IN")
    if Path(out).exists() and not overwrite:
        got, remedy = f"{out!r}, which exists", "name another, or --overwrite"
        raise ArgumentError(f"{CALL} OUT", "a new file or folder", got, remedy)
    if normalize is None:
        normalize = takes_unit_rows(amap)
    check_row_spaces(CALL, amap, rows, argument="IN")
    verdict = amap.card.get("verdict")
    if isinstance(verdict, Mapping) and verdict.get("word") in ("none", "too_few"):
        warnings.warn(f"the map's verdict: {verdict.get('sentence')}", stacklevel=2)
    use_compilation_cache()
    for name in rows.rows:
        _look(amap, rows, name, normalize=normalize, force=force)
    encoders = None
    if form == "search":
        encoders = _encoders(amap, rows, map_path, queries, normalize=normalize)
    with progress("Carrying rows", len(rows), "rows") as report:
        return carry(
            amap,
            rows,
            out,
            encoders=encoders,
            dtype=dtype,
            normalize=normalize,
            normalize_input=normalize,
            overwrite=overwrite,
            report=report,
            call=CALL,
        )


def _encoders(
    amap: AlignmentMap,
    rows: RowSet,
    map_path: str,
    queries: str | None,
    *,
    normalize: bool,
) -> dict[str, RowEncoder]:
    """What rows go through that are searched by plain cosine."""
    found: dict[str, RowEncoder] = {}
    kept = None if queries is not None else _kept(map_path)
    for name in rows.rows:
        own = modality_of(amap, name)
        if own is None:  # `carry` says which there are
            continue
        if queries is not None:
            opened = open_rows(queries, call=CALL, argument="--queries")
            of = opened.rows.get(name) or next(iter(opened.rows.values()))
            step = max(1, len(of) // SAMPLE)
            drawn = np.asarray(of.take(np.arange(0, len(of), step)[:SAMPLE]))
            units, good = unit_or_zero(drawn)
            sample = (units if normalize else drawn.astype(np.float32))[good]
        elif kept is not None and own in kept.samples:
            sample = kept.samples[own].target[:SAMPLE]
        else:
            raise ArgumentError(
                f"{CALL} --for=search",
                "the moments that the fit kept beside its map, or --queries=ROWS of "
                "the new model",
                "neither",
                "name rows of the new model that stand for queries to come",
            )
        found[own] = PlainCosine(amap, own, sample, call=f"{CALL} --for=search")
    return found


def _kept(map_path: str) -> KeptPairs | None:
    """What the fit kept beside its map, or None."""
    path = pairs_path(map_path)
    return KeptPairs.load(path) if path.is_file() else None


def _look(
    amap: AlignmentMap, rows: RowSet, name: str, *, normalize: bool, force: bool
) -> None:
    """Look at a sample of the rows: do they belong to the map's source side?

    Raises:
      ValueError: for norms unlike the anchors', or rows of the other side.
    """
    own = modality_of(amap, name)
    if own is None:  # `carry` says which there are
        return
    step = max(1, len(rows) // SAMPLE)
    drawn = rows.rows[name].take(np.arange(0, len(rows), step)[:SAMPLE])
    units, good = unit_or_zero(np.asarray(drawn))
    sample = units[good] if normalize else np.asarray(drawn, np.float32)[good]
    if not len(sample):
        return
    known = amap.numbers.source_norms
    if not normalize and known is not None:
        norms = np.linalg.norm(sample, axis=1)
        check_norms(f"{CALL} IN", norms.min(), norms.max(), np.asarray(known[own]))
    words = "rows" if name == "rows" else f"{name} rows"
    if force:
        fit = compare_sides(amap, units[good], own)
    else:
        fit = check_side(f"{CALL} IN, without --force", amap, units[good], name)
    if fit is not None and fit.strange:
        warnings.warn(
            f"these {words} are unlike the anchors that the map was fitted on: "
            "they are of another model, modality or domain. Look with jaxalign doctor "
            "--map=",
            stacklevel=3,
        )
    outside, usual = outside_share(amap, sample, own), _usual_outside(amap)
    if usual is not None and outside > max(TIMES_OUTSIDE * usual, LEAST_OUTSIDE):
        warnings.warn(
            f"{100 * outside:.0f} % of the spread of these {words} lies outside "
            f"what the map carries, against {100 * usual:.0f} % of held-out anchors: "
            "they are of another domain. Add pairs of it with jaxalign fit --add",
            stacklevel=3,
        )


def _usual_outside(amap: AlignmentMap) -> float | None:
    """Share of held-out anchors' spread outside what the map carries, if known."""
    figures: Any = amap.card.get("verdict")
    for key in ("heldout", "outside"):
        figures = figures.get(key) if isinstance(figures, Mapping) else None
    return float(figures) if isinstance(figures, int | float) else None
