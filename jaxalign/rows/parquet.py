# SPDX-License-Identifier: Apache-2.0
"""Parquet: a column of lists is a matrix; one file, several, or a folder of them."""

from typing import Any

import numpy as np

from jaxalign.errors import ArgumentError, MissingFileError
from jaxalign.lazy_rows import Rows, join_rows
from jaxalign.modality import Modality
from jaxalign.rows.keys import choose_key
from jaxalign.rows.parquet_columns import (
    ColumnIds,
    ColumnReader,
    TableFile,
    open_table,
)
from jaxalign.rows.places import Place
from jaxalign.rows.row_set import ROWS, RowSet, check_widths

SUFFIXES = (".parquet", ".parq", ".pq")


class ParquetRowSet(RowSet):
    """Rows of one column.

    Attributes:
      column: its name.
      tables: the files, in order.
      is_folder: whether the reference names a folder or a glob, not one file.
    """

    column: str
    tables: list[TableFile]
    is_folder: bool

    @property
    def chosen(self) -> str:
        """The column."""
        return self.column


def open_parquet(
    where: str,
    text: str,
    place: Place,
    key: str | None,
    modality: Modality | None,
    id_column: str | None,
) -> ParquetRowSet:
    """Open a column of one file, of the files of a folder, or of those of a glob.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if there is no such column, it holds no lists of floating numbers of
        one length, or it must be named.
    """
    places = _files(where, place)
    tables = [open_table(where, one) for one in places]
    schema = tables[0].schema
    lists = [field.name for field in schema if _is_list_of_floats(field.type)]
    column = choose_key(where, text, key, schema.names, lists, "column")
    pieces: dict[str, Rows] = {
        table.place.base: _ParquetRows(where, table, column) for table in tables
    }
    check_widths(where, pieces)
    _number_rows(pieces)
    found = ParquetRowSet(
        text,
        "parquet",
        {modality or ROWS: join_rows(list(pieces.values()))},
        places=places if places == [place] else [place, *places],
        ids=None if id_column is None else ColumnIds(where, tables, id_column),
    )
    found.column, found.tables = column, tables
    found.is_folder = places != [place]
    return found


def _files(where: str, place: Place) -> list[Place]:
    """List the files that a reference names, by number."""
    if place.is_file():
        return [place]
    if place.is_folder():
        places = [one for end in SUFFIXES for one in place.children(end)]
    elif any(sign in place.name for sign in "*?["):
        places = place.matches()
    else:
        places = [place]
    if not places:
        raise MissingFileError(
            f"`{where}`: no parquet file is named by {place.name!r}; check the path."
        )
    return places


def _is_list_of_floats(kind: Any) -> bool:
    """Whether a column's type is a list of floating numbers."""
    import pyarrow.types as types

    is_list = (
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
    )
    return is_list and types.is_floating(kind.value_type)


class _ParquetRows(Rows):
    """Rows of a column of one file."""

    def __init__(self, where: str, table: TableFile, column: str):
        name = table.place.base
        schema = table.schema
        choose_key(where, table.place.name, column, schema.names, [], "column")
        kind = schema.field(column).type
        if not _is_list_of_floats(kind):
            raise ArgumentError(
                where,
                f"lists of floating numbers in column {column!r} of {name}",
                kind,
                "store one embedding a row, as a list of float16 or float32",
            )
        self._where, self._column, self._name = where, column, name
        self._reader = ColumnReader(table, column)
        self.first_row = 0
        width = getattr(kind, "list_size", None)
        if width is None:
            first = self._reader.read(0, min(1, table.rows))
            width = len(first[0][0]) if first and first[0][0].is_valid else 0
        dtype = kind.value_type.to_pandas_dtype()
        super().__init__((table.rows, width), dtype)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Decode rows."""
        found, row = [], self.first_row + start
        for lists in self._reader.read(start, stop):
            found.append(self._matrix(lists, row))
            row += len(lists)
        if not found:
            return np.empty((0, self.shape[1]), self.dtype)
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _matrix(self, lists: Any, row: int) -> np.ndarray:
        """Return an Arrow array of lists as a matrix; raise over nulls and lengths."""
        import pyarrow.compute as pc

        width = self.shape[1]
        if lists.null_count:
            self._raise_at(row + _first(lists.is_null()), "a null")
        lengths = pc.call_function("list_value_length", [lists]).to_numpy()
        if np.any(lengths != width):
            place = int(np.argmax(lengths != width))
            self._raise_at(row + place, f"a list of {lengths[place]}")
        values = lists.flatten()
        if values.null_count:
            self._raise_at(row + _first(values.is_null()) // width, "a null in a list")
        return values.to_numpy(zero_copy_only=False).reshape(len(lists), width)

    def _raise_at(self, row: int, got: str) -> None:
        raise ArgumentError(
            self._where,
            f"a list of {self.shape[1]} numbers in every row of column "
            f"{self._column!r}",
            f"{got} in row {row:,} ({self._name})",
            "write NaN for an embedding that is missing, or leave the row out",
        )


def _number_rows(pieces: dict[str, Rows]) -> None:
    """Tell each file the number of its first row, for errors."""
    first = 0
    for piece in pieces.values():
        assert isinstance(piece, _ParquetRows)
        piece.first_row = first
        first += len(piece)


def _first(mask: Any) -> int:
    """Return the place of the first true value of an Arrow array."""
    return int(np.argmax(mask.to_numpy(zero_copy_only=False)))
