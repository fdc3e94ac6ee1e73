# SPDX-License-Identifier: Apache-2.0
"""Carrying rows of any format to the target space, into the same format."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxalign.array_types import Array, ArrayLike, Modality
from jaxalign.errors import ArgumentError, check_count, check_option
from jaxalign.maps.alignment_map import AlignmentMap, check_map
from jaxalign.maps.carry_block import Form, block_carrier, encoded_carrier
from jaxalign.maps.carry_stream import stream_blocks
from jaxalign.rows.creating import create_rows
from jaxalign.rows.opening import open_rows
from jaxalign.rows.row_set import ROWS, RowSet

FORMS: tuple[Form, ...] = ("rows", "search")

# A change of what is computed: a killed run of an older version is not gone on with.
_VERSION = 1


@runtime_checkable
class RowEncoder(Protocol):
    """Brings rows of the source model somewhere, each as it would alone."""

    @property
    def width(self) -> int:
        """Width of the rows that come out."""
        ...

    @property
    def identity(self) -> str:
        """Hash of what is computed: a killed run of another is not gone on with."""
        ...

    def __call__(self, rows: Array, /) -> Array:
        """Encode ``(n, d_source)`` rows."""
        ...


@dataclasses.dataclass(frozen=True)
class Carried:
    """What was written.

    Attributes:
      path: of the file or folder.
      rows: how many, as many as were read.
      bad: rows that came out as NaN, of all modalities.
      bad_rows: the same by modality.
      resumed: rows that an earlier, killed run had written.
      widths: of the rows by modality.
      dtype: of the numbers, by modality.
    """

    path: Path
    rows: int
    bad: int
    bad_rows: dict[Modality, int]
    resumed: int
    widths: dict[Modality, int]
    dtype: dict[Modality, str]


def carry(
    amap: AlignmentMap,
    source: RowSet | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    form: Form = "rows",
    dtype: str | None = None,
    normalize: bool = True,
    normalize_input: bool = False,
    batch_size: int = 8192,
    overwrite: bool = False,
    encoders: Mapping[Modality, RowEncoder] | None = None,
    report: Callable[[int], None] = lambda done: None,
    call: str = "carry",
) -> Carried:
    """Carry rows of any format to the target space, into the same format.

    No row is dropped or moved: one that is not finite, or is zero, comes out as NaN.
    Metadata, ids and order are kept. The output appears when it is whole; the same call
    after a kill goes on where that one was, and ends in the same bytes.

    Args:
      amap: the map. A map of "rows" carries any single matrix.
      source: rows, see `rows.open_rows`; with the space of the map, if theirs is known.
      out: path of the output, of the format of `source`.
      form: "rows" of the target space; or "search", where searches compare them: the
        scorer's common width, or else carried rows about the mean, at norm 1.
      dtype: of the output, "float16", "float32", "float64" or, of safetensors,
        "bfloat16"; that of the input without it.
      normalize: divide each row that comes out by its norm, as cosine indexes want.
      normalize_input: bring each row to the norm of the anchors first, see
        `AlignmentMap`.
      batch_size: rows a step, rounded up to a multiple of 1024. It changes no bit.
      overwrite: replace an output that is there.
      encoders: by modality of the map, what rows go through instead, such as
        `search.PlainCosine`; `form` and `normalize` are not asked then.
      report: told the rows that are written so far.
      call: the call, for errors.

    Returns:
      What was written, and how many rows are NaN.

    Raises:
      ValueError: for rows of another width, space or modality than the map's, norms
        unlike those of the anchors (met step by step), entries out of the range of
        float16, or as `rows.create_rows` does.

    Notes:
      Reading, computing and writing go on at once. Cost O(n d_source d_target), or what
      the disk takes if that is longer. Of an archive or a safetensors file only the
      array that was opened is written.

    >>> import tempfile, jaxalign as ja
    >>> folder, rows = tempfile.mkdtemp(), np.eye(3, dtype=np.float32)
    >>> np.save(folder + "/rows.npy", rows)
    >>> amap = ja.fit_map((rows, rows))
    >>> done = carry(amap, folder + "/rows.npy", folder + "/carried.npy")
    >>> done.rows, done.bad, np.load(done.path).shape
    (3, 0, (3, 3))
    """
    check_map(call, "amap", amap)
    check_option(call, "form", form, FORMS)
    check_count(call, "batch_size", batch_size)
    if not isinstance(source, RowSet):
        source = open_rows(source, call=call, argument="source")
    modalities = _modalities(call, amap, source)
    amap.check_space(call, source.space)
    scored = form == "search" and amap.scorer is not None
    width = amap.scorer.width if scored and amap.scorer else amap.d_target
    if encoders is not None:
        width = next(iter(encoders.values())).width
    options = {
        "form": form,
        "normalize": normalize,
        "normalize_input": normalize_input,
    }
    writer = create_rows(
        out,
        source,
        {name: width for name in source.rows},
        dtype=dtype,
        job={
            "carry": _VERSION,
            "map": amap.fingerprint,
            "norms": _norms_of(amap),
            "modalities": modalities,
            **options,
            **({} if encoders is None else {"encoders": _identities(encoders)}),
        },
        overwrite=overwrite,
        space=amap.target_space if form == "rows" and not encoders else None,
        call=call,
        argument="out",
    )
    with writer:
        carriers = {
            name: block_carrier(amap, own, dtype=writer.dtypes[name], **options)
            if encoders is None
            else encoded_carrier(
                encoders[own],
                amap,
                own,
                normalize_input=normalize_input,
                dtype=writer.dtypes[name],
            )
            for name, own in modalities.items()
        }
        norms = {} if normalize_input else _known_norms(amap, modalities)
        stream_blocks(call, source, carriers, norms, writer, batch_size, report)
        writer.finish()
    return Carried(
        path=writer.target,
        rows=len(source),
        bad=sum(writer.nan_rows.values()),
        bad_rows=writer.nan_rows,
        resumed=writer.done,
        widths=writer.widths,
        dtype={name: one.name for name, one in writer.dtypes.items()},
    )


def _modalities(
    call: str, amap: AlignmentMap, source: RowSet
) -> dict[Modality, Modality]:
    """Return the modality of the map for each of the rows'."""
    found = {}
    for name, rows in source.rows.items():
        if len(rows) and rows.shape[1] != amap.d_source:
            raise ArgumentError(
                f"{call}(source={source.reference!r})",
                f"{name} rows of width {amap.d_source}, which the map takes",
                rows.shape[1],
                "name rows of the map's source model"
                + (
                    ", or turn the map around by `amap.inverse()`"
                    if rows.shape[1] == amap.d_target
                    else ""
                ),
            )
        lone = len(source.rows) == 1 and len(amap.modalities) == 1
        if name in amap.modalities:
            found[name] = name
        elif lone and ROWS in (name, amap.modalities[0]):
            found[name] = amap.modalities[0]
        elif len(source.rows) > 1 or source.kind in ("folder", "store"):
            there = [one for one in source.rows if one in amap.modalities]
            folder = source.reference.rstrip("/")
            raise ArgumentError(
                f"{call}(source={source.reference!r})",
                f"modalities among {list(amap.modalities)}, which the map holds",
                f"{name!r}",
                f"carry '{folder}/::{there[0]}' alone"
                if there
                else "fit the map with pairs of it",
            )
        else:
            amap.check_modality(
                f"{call}(modality={{}})", None if name == ROWS else name
            )
    return found


def _known_norms(
    amap: AlignmentMap, modalities: dict[Modality, Modality]
) -> dict[Modality, ArrayLike]:
    """Return the norms of the anchors, of modalities whose are known."""
    known = amap.numbers.source_norms
    if known is None:
        return {}
    return {name: np.asarray(known[own]) for name, own in modalities.items()}


def _identities(encoders: Mapping[Modality, RowEncoder]) -> dict[Modality, str]:
    """Hashes of what rows go through."""
    return {name: one.identity for name, one in sorted(encoders.items())}


def _norms_of(amap: AlignmentMap) -> Any:
    """Return the norms as JSON values: the fingerprint of a map leaves them out."""
    known = amap.numbers.source_norms
    if known is None:
        return None
    return {name: np.asarray(one).tolist() for name, one in sorted(known.items())}
