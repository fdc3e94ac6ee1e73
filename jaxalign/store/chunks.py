# SPDX-License-Identifier: Apache-2.0
"""Chunks: files of one append each, until all chunks of a part become its files.

A chunk is an Arrow IPC file, durable once it has its name, and the name says what is
in it: first example, number of examples, number of rows, sha256 of the bytes. So a
listing shows what is done, and a damaged chunk is known by reading it.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from jaxalign.atomic_files import write_atomically
from jaxalign.store.incoming import Batch

_NAME = re.compile(r"(\d{12,})-(\d+)-(\d+)-([0-9a-f]{64})\.arrow")
# Keeps a modality apart from a metadata column of its name.
_PREFIX = "rows:"


class Chunk(NamedTuple):
    """A chunk as its file's name tells it."""

    path: Path
    first: int
    examples: int
    rows: int
    sha256: str

    @property
    def range(self) -> range:
        """The examples in it."""
        return range(self.first, self.first + self.examples)


def write_chunk(
    folder: Path, first: int, examples: int, batch: Batch, temporary_folder: Path
) -> Path:
    """Write a batch as a chunk, durable on return; return its path."""
    data = _encode(batch)
    sha256 = hashlib.sha256(data).hexdigest()
    rows = batch.table.num_rows
    path = folder / f"{first:012d}-{examples}-{rows}-{sha256}.arrow"
    write_atomically(path, data, temporary_folder=temporary_folder)
    return path


def read_chunk(chunk: Chunk) -> Batch | None:
    """Read a chunk; None if its bytes are not those that were written."""
    data = chunk.path.read_bytes()
    if hashlib.sha256(data).hexdigest() != chunk.sha256:
        return None
    table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
    skipped = json.loads((table.schema.metadata or {})[b"skipped"])
    embeddings = [name for name in table.column_names if name.startswith(_PREFIX)]
    return Batch(
        rows={name.removeprefix(_PREFIX): _to_rows(table[name]) for name in embeddings},
        table=table.drop_columns(embeddings).replace_schema_metadata(None),
        skipped=[(name, reason) for name, reason in skipped],
    )


def list_chunks(folder: Path, whole: range) -> list[Chunk]:
    """List chunks in order; none of them overlaps another or leaves the part."""
    found = []
    try:
        paths = list(folder.iterdir())
    except FileNotFoundError:
        return []
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match:
            first, examples, rows = map(int, match.groups()[:3])
            found.append(Chunk(path, first, examples, rows, match.group(4)))
    kept: list[Chunk] = []
    stop = whole.start
    for chunk in sorted(found, key=lambda chunk: chunk.range.start):
        if chunk.range.start >= stop and chunk.range.stop <= whole.stop:
            kept.append(chunk)
            stop = chunk.range.stop
    return kept


def gaps(whole: range, taken: Iterable[range]) -> list[range]:
    """Return the parts of a range that other ranges, in order and disjoint, leave.

    >>> gaps(range(2, 10), [range(0, 3), range(5, 7)])
    [range(3, 5), range(7, 10)]
    """
    left = []
    start = whole.start
    for piece in taken:
        if piece.start > start:
            left.append(range(start, min(piece.start, whole.stop)))
        start = max(start, piece.stop)
        if start >= whole.stop:
            return [piece for piece in left if piece]
    return [piece for piece in [*left, range(start, whole.stop)] if piece]


def _encode(batch: Batch) -> bytes:
    """Serialise a batch as an Arrow IPC file."""
    arrays = {_PREFIX + name: _to_array(rows) for name, rows in batch.rows.items()}
    arrays |= {name: batch.table[name] for name in batch.table.column_names}
    table = pa.table(arrays).replace_schema_metadata(
        {"skipped": json.dumps(batch.skipped)}
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _to_array(rows: np.ndarray) -> pa.Array:
    """View (n, d) rows as n lists of d numbers."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


def _to_rows(column: pa.ChunkedArray) -> np.ndarray:
    """View n lists of d numbers as (n, d) rows."""
    lists: Any = column.combine_chunks()
    width = column.type.list_size
    return lists.flatten().to_numpy(zero_copy_only=True).reshape(-1, width)
