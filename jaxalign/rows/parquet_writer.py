# SPDX-License-Identifier: Apache-2.0
"""Writing parquet: the other columns, row groups and compression of the files read.

A file is resumed as a whole: its footer is written last, and a row group that was cut
off cannot be gone on with. In memory is one row group.
"""

import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.errors import ArgumentError
from jaxalign.modality import Modality
from jaxalign.rows.parquet import ParquetRowSet
from jaxalign.rows.parquet_columns import TableFile
from jaxalign.rows.row_writer import RowWriter
from jaxalign.rows.unfinished import Output, Progress, Unfinished


def create_parquet(
    unfinished: Unfinished, like: ParquetRowSet, out: Output
) -> "ParquetRowWriter":
    """Start to write a file, or a folder of as many files under the same names."""
    names = [table.place.base for table in like.tables]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ArgumentError(
            "create_rows(like=...)",
            "files whose names differ",
            f"{twice!r} of two folders",
            "carry the folders one by one",
        )
    return ParquetRowWriter(unfinished, like, out)


class ParquetRowWriter(RowWriter):
    """Writes one file after another, a row group at a time."""

    def __init__(self, unfinished: Unfinished, like: ParquetRowSet, out: Output):
        self._like = like
        (self._name,) = out.widths
        self._ends = list(itertools.accumulate(table.rows for table in like.tables))
        self._file: _OpenFile | None = None
        super().__init__(unfinished, len(like), out)

    def _restore(self, rows: int) -> bool:
        whole = sum(end <= rows for end in self._ends) if rows else 0
        paths = [self._path(table) for table in self._like.tables[:whole]]
        return all(path.is_file() for path in paths)

    def _room(self, start: int) -> int:
        return self._at(start).room

    def _write(self, rows: Mapping[Modality, np.ndarray], start: int) -> None:
        self._at(start).add(rows[self._name])
        stop = start + len(rows[self._name])
        if stop in self._ends:
            self._end_file()
            self._unfinished.save(Progress(stop, self.nan_rows))

    def _complete(self) -> None:
        self._end_file()
        for table in self._like.tables:
            if not table.rows:
                self._begin(table)
                self._end_file()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _at(self, row: int) -> "_OpenFile":
        """Return the file that a row goes into."""
        if self._file is None:
            number = int(np.searchsorted(self._ends, row, side="right"))
            self._file = self._begin(self._like.tables[number])
        return self._file

    def _begin(self, table: TableFile) -> "_OpenFile":
        path = self._path(table)
        path.parent.mkdir(parents=True, exist_ok=True)
        width, dtype = self._out.widths[self._name], self._out.dtypes[self._name]
        self._file = _OpenFile(path, table, self._like.column, width, dtype)
        return self._file

    def _end_file(self) -> None:
        """Bring the open file to the disk."""
        if self._file is not None:
            path = self._file.path
            self._close()
            with path.open("rb") as stream:
                os.fsync(stream.fileno())

    def _path(self, table: TableFile) -> Path:
        output = self._unfinished.output
        return output / table.place.base if self._like.is_folder else output


class _OpenFile:
    """A parquet file that is being written beside the one that is read."""

    def __init__(
        self, path: Path, table: TableFile, column: str, width: int, dtype: np.dtype
    ):
        import pyarrow.parquet as pq

        self.path, self._column = path, column
        self._width = width
        self._schema = _new_schema(table, column, width, dtype)
        self._lengths = table.groups
        self._read = table.open()
        self._group = -1
        self._left = 0
        self._pieces: list[np.ndarray] = []
        self._next_group()
        self._writer = pq.ParquetWriter(
            path, self._schema, **_settings(self._read.metadata, column)
        )

    @property
    def room(self) -> int:
        """Rows that the row group still takes."""
        return self._left

    def add(self, rows: np.ndarray) -> None:
        """Add rows of the row group; write it when it is full."""
        # A copy: the caller may use its memory again.
        self._pieces.append(np.array(rows))
        self._left -= len(rows)
        if not self._left:
            self._write_group()
            self._next_group()

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()
        self._read.close()

    def _next_group(self) -> None:
        """Go to the next row group that has rows."""
        while not self._left and self._group + 1 < len(self._lengths):
            self._group += 1
            self._left = self._lengths[self._group]

    def _write_group(self) -> None:
        """Write a row group: the other columns as they were read."""
        import pyarrow as pa

        others = [name for name in self._schema.names if name != self._column]
        read = self._read.read_row_group(self._group, columns=others)
        rows = np.concatenate(self._pieces)
        self._pieces = []
        kind = self._schema.field(self._column).type
        columns: dict[str, Any] = {name: read[name] for name in others}
        columns[self._column] = _to_lists(rows, kind)
        table = pa.table(
            [columns[name] for name in self._schema.names], schema=self._schema
        )
        self._writer.write_table(table, row_group_size=len(rows))


def _to_lists(rows: np.ndarray, kind: Any) -> Any:
    """Return rows as an Arrow array of lists, of any type of list."""
    import pyarrow as pa
    import pyarrow.types as types

    values = pa.array(rows.reshape(-1))
    if types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(values, type=kind)
    large = types.is_large_list(kind)
    offsets = np.arange(len(rows) + 1, dtype=np.int64) * rows.shape[1]
    array = pa.LargeListArray if large else pa.ListArray
    offsets = pa.array(offsets if large else offsets.astype(np.int32))
    return array.from_arrays(offsets, values, type=kind)


def _new_schema(table: TableFile, column: str, width: int, dtype: np.dtype) -> Any:
    """Return the schema read, with lists of another width and dtype in one column."""
    import pyarrow as pa
    import pyarrow.types as types

    schema = table.schema
    number = schema.get_field_index(column)
    field = schema.field(number)
    value = field.type.value_field.with_type(pa.from_numpy_dtype(dtype.newbyteorder()))
    if types.is_fixed_size_list(field.type):
        kind = pa.list_(value, width)
    elif types.is_large_list(field.type):
        kind = pa.large_list(value)
    else:
        kind = pa.list_(value)
    # Hugging Face keeps a second description there, of the old width.
    kept = {
        name: text
        for name, text in (schema.metadata or {}).items()
        if name != b"huggingface"
    }
    return schema.set(number, field.with_type(kind)).with_metadata(kept or None)


def _settings(metadata: Any, column: str) -> dict[str, Any]:
    """Return compression and dictionaries of the columns, as they were read."""
    if not metadata.num_row_groups:
        return {}
    group = metadata.row_group(0)
    compression, dictionaries = {}, []
    for number in range(group.num_columns):
        found = group.column(number)
        # The name that pyarrow gives the entries of lists.
        path = re.sub(
            r"\.(bag|list)\.(array_element|array|item)\b",
            ".list.element",
            found.path_in_schema,
        )
        codec = found.compression.lower().removesuffix("_raw")
        compression[path] = "none" if codec == "uncompressed" else codec
        is_rows = path.split(".")[0] == column
        if any("DICTIONARY" in one for one in found.encodings) and not is_rows:
            dictionaries.append(path)
    return {"compression": compression, "use_dictionary": dictionaries or False}
