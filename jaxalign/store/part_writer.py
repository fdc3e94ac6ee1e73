# SPDX-License-Identifier: Apache-2.0
"""The files of one part, written piece by piece, hashed on the way."""

import contextlib
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jaxalign.atomic_files import open_atomically
from jaxalign.store.incoming import COLUMN_TYPES
from jaxalign.store.layout import METADATA
from jaxalign.store.plan import Plan

# Rows of a parquet row group. A fixed number, whatever the appends were: the same data
# give the same bytes.
ROW_GROUP = 16384


class PartWriter:
    """Streams of one part's files, all open at once; made by `open_part`."""

    def __init__(
        self,
        plan: Plan,
        streams: dict[str, "_HashingStream"],
        rows: int,
        columns: dict[str, str],
    ):
        self._streams = streams
        self._shapes = {
            modality: (rows, width) for modality, width in plan.modalities.items()
        }
        self._dtype = plan.storage_dtype
        for modality, shape in self._shapes.items():
            header = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(streams[modality], header)
        schema = pa.schema(
            [(name, COLUMN_TYPES[kind]) for name, kind in columns.items()]
        )
        self._pending = schema.empty_table()
        self._parquet = pq.ParquetWriter(
            streams[METADATA], schema, compression="snappy", store_schema=False
        )

    def write(self, rows: dict[str, np.ndarray], table: pa.Table) -> None:
        """Write the next rows and their metadata."""
        for modality in self._shapes:
            self._streams[modality].write(np.ascontiguousarray(rows[modality]).data)
        # A copy: the table is a view of its chunk's bytes, rows and all, which would
        # stay in memory until the row group is full.
        copied = table.take(np.arange(table.num_rows))
        self._pending = pa.concat_tables([self._pending, copied])
        while self._pending.num_rows >= ROW_GROUP:
            self._write_group(self._pending.slice(0, ROW_GROUP))
            self._pending = self._pending.slice(ROW_GROUP)

    def close(self) -> dict[str, dict[str, Any]]:
        """Write what is left; return for each kind of file what a manifest says."""
        if self._pending.num_rows:
            self._write_group(self._pending)
        self._parquet.close()
        entries: dict[str, dict[str, Any]] = {}
        for kind, stream in self._streams.items():
            entries[kind] = {"bytes": stream.tell(), "sha256": stream.hexdigest()}
            if kind in self._shapes:
                entries[kind]["shape"] = list(self._shapes[kind])
                entries[kind]["dtype"] = self._dtype.str
        return entries

    def _write_group(self, table: pa.Table) -> None:
        # One piece a column: pages would end where the appended pieces do.
        self._parquet.write_table(table.combine_chunks(), row_group_size=ROW_GROUP)


@contextlib.contextmanager
def open_part(
    folder: Path,
    plan: Plan,
    part: int,
    *,
    rows: int,
    columns: dict[str, str],
    temporary_folder: Path,
) -> Iterator[PartWriter]:
    """Open a part's files; they take their names when the block ends well.

    Args:
      folder: the store's.
      plan: the store's.
      part: its number.
      rows: how many it will have, at least 1.
      columns: names and types of the metadata.
      temporary_folder: where the files are until they are whole.
    """
    with contextlib.ExitStack() as stack:
        streams = {}
        for kind, name in plan.part_files(part).items():
            place = folder / name
            opened = open_atomically(place, temporary_folder=temporary_folder)
            streams[kind] = _HashingStream(stack.enter_context(opened))
        try:
            yield PartWriter(plan, streams, rows, columns)
        except BaseException:
            for stream in streams.values():
                stream.abandon()
            raise


class _HashingStream(io.BufferedIOBase):
    """A binary stream that hashes and counts what goes through it."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self._digest = hashlib.sha256()
        self._count = 0
        self._abandoned = False

    def abandon(self) -> None:
        """Take and drop the rest: a parquet writer ends its file when it is deleted."""
        self._abandoned = True

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        count = memoryview(data).nbytes
        if self._abandoned:
            return count
        self._stream.write(data)
        self._digest.update(data)
        self._count += count
        return count

    def tell(self) -> int:
        return self._count

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
