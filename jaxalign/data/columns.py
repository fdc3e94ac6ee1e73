# SPDX-License-Identifier: Apache-2.0
"""The user's own examples as Arrow columns: compact with millions of rows.

Rows are gathered in blocks, so that few Python objects live at a time, and the blocks
stay as they are, so that no column is copied. A table pickles as its buffers.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jaxalign.repetitions import find_repeated

# A block's strings begin at 32-bit offsets: they must have less than 2 GiB.
_BLOCK = 1 << 14
_MOST_CHARACTERS = 1 << 29  # of at most 4 bytes each
_WHOLE_NUMBER = re.compile(r"[+-]?\d+")


class TableBuilder:
    """Gathers rows into a table, block by block."""

    def __init__(self, schema: pa.Schema):
        self._schema = schema
        self._rows: list[tuple[Any, ...]] = []
        self._blocks: list[pa.RecordBatch] = []

    def add(self, *cells: Any) -> None:
        """Add one row, its cells in the schema's order."""
        self._rows.append(cells)
        if len(self._rows) == _BLOCK:
            self._close_block()

    def finish(self) -> pa.Table:
        """Return all rows, a chunk a block; a column has the same codes throughout."""
        self._close_block()
        table = pa.Table.from_batches(self._blocks, self._schema)
        return table.unify_dictionaries()

    def _close_block(self) -> None:
        self._close(self._rows)
        self._rows = []

    def _close(self, rows: Sequence[tuple[Any, ...]]) -> None:
        characters = sum(len(cell) for row in rows for cell in row if _is_text(cell))
        if characters > _MOST_CHARACTERS and len(rows) > 1:
            half = len(rows) // 2
            self._close(rows[:half])
            self._close(rows[half:])
        elif rows:
            columns = zip(*rows, strict=True)
            arrays = [
                pa.array(column, field.type)
                for column, field in zip(columns, self._schema, strict=True)
            ]
            self._blocks.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))


def _is_text(cell: Any) -> bool:
    return isinstance(cell, str)


def find_duplicate(keys: pa.Table) -> tuple[int, int] | None:
    """Return two rows that are alike in all columns, None if all differ.

    They are the first two, unless more than a thousand rows repeat.

    Args:
      keys: columns of strings; nulls are alike.
    """

    def blocks() -> Iterator[list[tuple[Any, ...]]]:
        for block in keys.to_batches(max_chunksize=_BLOCK):
            cells = (column.to_pylist() for column in block.columns)
            yield list(zip(*cells, strict=True))

    repeated = find_repeated(blocks, len(keys))
    return repeated[0][1:] if repeated else None


def number_classes(labels: pa.ChunkedArray) -> tuple[tuple[str, ...], pa.ChunkedArray]:
    """Give each label its class number.

    Names become classes in alphabetical order. Labels that are all whole numbers become
    classes in numerical order, named by their digits: 3, 7, 10 are the classes 0, 1, 2,
    called "3", "7", "10".

    Args:
      labels: strings, or a dictionary of them; null, "" and negative numbers are no
        label.

    Returns:
      The classes' names, and a class a row, int32, -1 where there is no label.
    """
    if not pa.types.is_dictionary(labels.type):
        labels = labels.dictionary_encode()
    chunks: list[Any] = labels.unify_dictionaries().chunks
    found = chunks[0].dictionary.to_pylist() if chunks else []
    if all(name == "" or _WHOLE_NUMBER.fullmatch(name) for name in found):
        numbers = {name: int(name) for name in found if name}
        names = [str(n) for n in sorted({n for n in numbers.values() if n >= 0})]
        called = {name: str(number) for name, number in numbers.items()}
    else:
        names = sorted(name for name in found if name)
        called = {name: name for name in names}
    number_of = {name: number for number, name in enumerate(names)}
    codes = [number_of.get(called.get(name, ""), -1) for name in found]
    class_of = np.array([*codes, -1], np.int32)
    numbered = [class_of[c.indices.fill_null(len(found)).to_numpy()] for c in chunks]
    return tuple(names), pa.chunked_array(numbered, pa.int32())


def fingerprint(table: pa.Table, *others: str) -> str:
    """Return a digest of columns and of other strings.

    It depends neither on memory layout nor on the version of Arrow.

    Args:
      table: columns of strings, or of integers without nulls.
      others: what else counts.
    """
    digest = hashlib.sha256(repr(others).encode())
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(f"{name} {len(column)} {column.null_count}".encode())
        for piece in _pieces(column):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(column: pa.ChunkedArray) -> Iterator[Any]:
    """Yield the bytes of a column: all that is null, all lengths, all characters."""
    chunks: list[Any] = [chunk for chunk in column.chunks if len(chunk)]
    if not pa.types.is_string(column.type):
        yield from (chunk.to_numpy() for chunk in chunks)
        return
    if column.null_count:  # what is null has no characters, but so has ""
        yield from (c.is_null().to_numpy(zero_copy_only=False) for c in chunks)
    yield from (np.diff(_offsets(chunk)) for chunk in chunks)
    for chunk in chunks:
        offsets = _offsets(chunk)
        yield memoryview(chunk.buffers()[2] or b"")[offsets[0] : offsets[-1]]


def _offsets(strings: pa.Array) -> np.ndarray:
    """Return where the strings begin in their buffer, and where the last one ends."""
    offsets = np.frombuffer(strings.buffers()[1], np.int32)
    return offsets[strings.offset :][: len(strings) + 1]
