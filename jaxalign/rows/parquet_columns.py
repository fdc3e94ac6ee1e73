# SPDX-License-Identifier: Apache-2.0
"""Columns of parquet files, read by slices of rows in constant memory.

A parquet file is read from the start of a row group on. Whoever reads slices in order
goes on where the last one ended, so that a row group is decoded once.
"""

import bisect
import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxalign.errors import ArgumentError, shorten
from jaxalign.rows.places import Place, missing_package, open_checked
from jaxalign.rows.row_set import Ids

# Rows decoded at a time.
_DECODED = 8192


class TableFile(NamedTuple):
    """A parquet file, by its footer; closed, since there may be thousands.

    Attributes:
      place: of the file.
      schema: a `pyarrow.Schema`.
      groups: rows of each row group.
    """

    place: Place
    schema: Any
    groups: list[int]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(self.groups)

    def open(self) -> Any:
        """Open the file again, as a `pyarrow.parquet.ParquetFile`."""
        import pyarrow.parquet as pq

        if self.place.local is not None:
            return pq.ParquetFile(self.place.local, memory_map=True, pre_buffer=False)
        return pq.ParquetFile(self.place.open(), pre_buffer=False)


def open_table(where: str, place: Place) -> TableFile:
    """Read the footer of a parquet file.

    Raises:
      FileNotFoundError: if there is no such file.
      ModuleNotFoundError: if pyarrow is not installed.
      ValueError: if it is no parquet file.
    """
    with open_checked(where, place) as stream:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ModuleNotFoundError as error:
            raise missing_package(where, "pyarrow", "parquet files") from error
        try:
            opened = pq.ParquetFile(stream, pre_buffer=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise ArgumentError(
                where,
                f"a parquet file in {place.base}",
                f"something else ({error})",
                "copy or write it again",
            ) from error
        metadata = opened.metadata
        groups = range(metadata.num_row_groups)
        lengths = [metadata.row_group(group).num_rows for group in groups]
        return TableFile(place, opened.schema_arrow, lengths)


class ColumnReader:
    """One column of one parquet file, as Arrow arrays."""

    def __init__(self, table: TableFile, column: str):
        self._table, self._column = table, column
        self._starts = [0, *itertools.accumulate(table.groups)]
        self._opened: Any = None
        # Rows before `_place` were given away; `_rest` are decoded, and come next.
        self._place = 0
        self._rest: list[Any] = []
        self._stream: Iterator[Any] | None = None
        self._lock = threading.Lock()

    def read(self, start: int, stop: int) -> list[Any]:
        """Return Arrow arrays that hold rows ``start`` to ``stop`` together."""
        with self._lock:
            return self._read(start, stop) if start < stop else []

    def _read(self, start: int, stop: int) -> list[Any]:
        if self._stream is None or start < self._place or self._passes_group(start):
            self._restart(start)
        self._drop(start - self._place)
        found, wanted = [], stop - start
        while wanted:
            piece = self._next()
            if len(piece) > wanted:
                self._rest.append(piece.slice(wanted))
                piece = piece.slice(0, wanted)
            found.append(piece)
            wanted -= len(piece)
        self._place = stop
        if stop == self._starts[-1]:
            self._close()
        return found

    def _passes_group(self, start: int) -> bool:
        """Whether a row lies in a later row group than the next one to be read."""
        return self._group(start) > self._group(min(self._place, self._starts[-1] - 1))

    def _group(self, row: int) -> int:
        return bisect.bisect_right(self._starts, row) - 1

    def _restart(self, start: int) -> None:
        """Begin at the row group that holds a row."""
        group = self._group(start)
        self._rest = []
        self._place = self._starts[group]
        self._close()
        self._opened = self._table.open()
        batches = self._opened.iter_batches(
            batch_size=_DECODED,
            row_groups=list(range(group, len(self._starts) - 1)),
            columns=[self._column],
        )
        self._stream = (batch.column(0) for batch in batches if batch.num_rows)

    def _close(self) -> None:
        """Close the file: another may be read next, of thousands."""
        self._stream = None
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _drop(self, count: int) -> None:
        """Pass over rows."""
        while count:
            piece = self._next()
            if len(piece) > count:
                self._rest.append(piece.slice(count))
            passed = min(len(piece), count)
            count -= passed
            self._place += passed

    def _next(self) -> Any:
        assert self._stream is not None
        return self._rest.pop() if self._rest else next(self._stream)


def _no_column(where: str, table: TableFile, column: str) -> ArgumentError:
    """The error of ids from a column that is not there."""
    import pyarrow.types as types

    names = [one.name for one in table.schema if not types.is_nested(one.type)]
    there = shorten([repr(name) for name in names], most=8) or "none"
    remedy = "leave id_column out: rows pair by position"
    if names:
        remedy = f"write --id_column={names[0]}; in Python, id_column={names[0]!r}"
    return ArgumentError(
        where,
        f"a column of ids in {table.place.base}",
        f"{column!r}; there are {there}",
        remedy,
    )


class ColumnIds(Ids):
    """Ids of rows: the values of one column, as strings."""

    unique = False

    def __init__(self, where: str, tables: Sequence[TableFile], column: str):
        for table in tables:
            if column not in table.schema.names:
                raise _no_column(where, table, column)
        self._where, self._column = where, column
        self._readers = [ColumnReader(table, column) for table in tables]
        self._starts = [0, *itertools.accumulate(table.rows for table in tables)]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the ids of rows ``start`` to ``stop``.

        Raises:
          ValueError: if a row has none.
        """
        values: list[Any] = []
        for reader, offset, end in zip(
            self._readers, self._starts[:-1], self._starts[1:], strict=True
        ):
            first, last = max(start, offset) - offset, min(stop, end) - offset
            for piece in reader.read(first, last):
                values += piece.to_pylist()
        if None in values:
            raise ArgumentError(
                self._where,
                f"an id in column {self._column!r} of every row",
                f"none in row {start + values.index(None):,}",
                "name a column without nulls, or pair rows by position",
            )
        return np.array([str(value) for value in values], np.str_)
