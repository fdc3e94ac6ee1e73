# SPDX-License-Identifier: Apache-2.0
"""The user's own examples as Arrow columns: compact with millions of rows.

Rows are gathered in blocks, so that few Python objects live at a time; a table pickles
as a handful of buffers.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int32

_BLOCK = 1 << 16
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
        """Return all rows; every column is one chunk."""
        self._close_block()
        return one_chunk(pa.Table.from_batches(self._blocks, self._schema))

    def _close_block(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [() for _ in self._schema]
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._blocks.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._rows = []


def one_chunk(table: pa.Table) -> pa.Table:
    """Return a table whose columns are one array each, for quick access by row."""
    arrays = [pa.concat_arrays(column.chunks) for column in table.columns]
    return pa.Table.from_arrays(arrays, schema=table.schema)


def find_duplicate(keys: pa.Table) -> tuple[int, int] | None:
    """Return the first two rows that are alike in all columns, None if all differ.

    Args:
      keys: columns of strings; nulls are alike.
    """
    codes = np.zeros(len(keys), np.int64)
    for column in keys.columns:
        coded = column.combine_chunks().fill_null("").dictionary_encode()
        codes = codes * len(coded.dictionary) + coded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    alike = np.flatnonzero(codes[order][1:] == codes[order][:-1])
    if len(alike) == 0:
        return None
    second = alike[np.argmin(order[alike + 1])]
    return int(order[second]), int(order[second + 1])


def number_classes(
    labels: pa.Array,
) -> tuple[tuple[str, ...], Int32[np.ndarray, " n"]]:
    """Give each label its class number.

    Names become classes in alphabetical order. Labels that are all whole numbers become
    classes in numerical order, named by their digits: 3, 7, 10 are the classes 0, 1, 2,
    called "3", "7", "10".

    Args:
      labels: strings; null, "" and negative numbers are no label.

    Returns:
      The classes' names, and a class a row, -1 where there is no label.
    """
    encoded = labels.fill_null("").dictionary_encode()
    found = encoded.dictionary.to_pylist()
    if all(name == "" or _WHOLE_NUMBER.fullmatch(name) for name in found):
        numbers = {name: int(name) for name in found if name}
        names = [str(n) for n in sorted({n for n in numbers.values() if n >= 0})]
        called = {name: str(number) for name, number in numbers.items()}
    else:
        names = sorted(name for name in found if name)
        called = {name: name for name in names}
    number_of = {name: number for number, name in enumerate(names)}
    codes = [number_of.get(called.get(name, ""), -1) for name in found]
    numbered = np.array([*codes, -1], np.int32)[encoded.indices.to_numpy()]
    return tuple(names), numbered


def fingerprint(arrays: Mapping[str, pa.Array], *others: str) -> str:
    """Return a digest of columns and of other strings.

    It depends neither on memory layout nor on the version of Arrow.

    Args:
      arrays: columns of strings or integers without nulls.
      others: what else counts.
    """
    digest = hashlib.sha256(repr(others).encode())
    for name, array in arrays.items():
        digest.update(f"{name} {len(array)}".encode())
        if pa.types.is_large_string(array.type):
            offsets = np.frombuffer(array.buffers()[1], np.int64)
            offsets = offsets[array.offset :][: len(array) + 1]
            digest.update((offsets - offsets[0]).tobytes())
            characters = memoryview(array.buffers()[2] or b"")
            digest.update(characters[offsets[0] : offsets[-1]])
        else:
            digest.update(array.to_numpy().tobytes())
    return digest.hexdigest()
