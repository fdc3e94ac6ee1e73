# SPDX-License-Identifier: Apache-2.0
"""Paired rows in batches from arrays, in memory or mapped from disk."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import check_float_rows, native_floats
from jaxalign.lazy_rows import Rows
from jaxalign.moments.passes import PairBatch
from jaxalign.read_ahead import ReadAhead, is_mapped, touch

BATCH_SIZE = 8192

Groups = ArrayLike | Callable[[np.ndarray], np.ndarray]
"""Number of each row's group, ``(n,)``; or a function of row numbers, for many rows."""


class PairSlices:
    """An iterator over batches of paired rows that knows its place.

    `get_state` and `set_state` are Grain's protocol: JSON values, so that a checkpoint
    can hold them.
    """

    def __init__(
        self,
        source: Any,
        target: Any,
        weights: ArrayLike | None,
        group: Groups | None,
        batch_size: int,
        rows: range,
    ):
        self._sides = (source, target)
        self._weights, self._group = weights, group
        self._batch_size, self._rows = batch_size, rows
        self._next = rows.start
        self._ahead = ReadAhead()

    def __iter__(self) -> "PairSlices":
        return self

    def __len__(self) -> int:
        """Batches from the start to the end."""
        return -(-len(self._rows) // self._batch_size)

    def __next__(self) -> PairBatch:
        if self._next >= self._rows.stop:
            self._ahead.close()
            raise StopIteration
        start = self._next
        stop = min(start + self._batch_size, self._rows.stop)
        self._next = stop
        slices = [side[start:stop] for side in self._sides]
        source, target = (_frozen(native_floats(rows)) for rows in slices)
        mapped = [
            side
            for side, rows in zip(self._sides, slices, strict=True)
            if is_mapped(rows)
        ]
        if stop < self._rows.stop and mapped:
            following = slice(stop, min(stop + self._batch_size, self._rows.stop))
            self._ahead.start(lambda: _touch(mapped, following))
        weights = None if self._weights is None else self._weights[start:stop]
        if callable(self._group):
            group = self._group(np.arange(start, stop))
        else:
            group = None if self._group is None else self._group[start:stop]
        return PairBatch(source, target, weights, group)

    def get_state(self) -> dict[str, int]:
        """Return the next row's number."""
        return {"next_row": self._next}

    def set_state(self, state: dict[str, int]) -> None:
        """Go to a row, as `get_state` returned it.

        Raises:
          ValueError: if these rows have no such place.
        """
        row = state.get("next_row", -1)
        if not self._rows.start <= row <= self._rows.stop:
            raise ArgumentError(
                f"set_state({state})",
                f"a row from {self._rows.start} to {self._rows.stop}",
                remedy="it is the place in other data",
            )
        self._next = row


def _touch(sides: list[Any], rows: slice) -> None:
    """Bring the next rows from the disk."""
    for side in sides:
        touch(side[rows])


def _frozen(rows: Any) -> Any:
    """Make a slice read-only: rows that stay as they are need not be copied."""
    if isinstance(rows, np.ndarray):
        rows.flags.writeable = False
    return rows


def array_pairs(
    source: ArrayLike | Rows,
    target: ArrayLike | Rows,
    *,
    weights: ArrayLike | None = None,
    group: Groups | None = None,
    batch_size: int = BATCH_SIZE,
    rows: range | None = None,
) -> PairSlices:
    """Cut paired rows into batches, without a copy of rows in native byte order.

    Args:
      source: ``(n, d_source)``, NumPy (memory-mapped too), JAX, or `rows.Rows`.
      target: ``(n, d_target)``; row i belongs to row i of `source`.
      weights: ``(n,)`` weights or a mask. Default: all 1.
      group: ``(n,)`` numbers of groups, or a function from row numbers to them, such as
        `block_of_rows`, which takes no memory.
      batch_size: rows a batch; the last may be shorter.
      rows: which; all without it. `process_rows` gives each process its share.

    Returns:
      An iterator of `PairBatch` for `accumulate_moments`, that knows its place.

    Raises:
      ValueError: if the arrays do not pair, or a number is out of range.

    >>> batches = array_pairs(np.eye(5), np.eye(5), batch_size=2)
    >>> [len(batch.source) for batch in batches]
    [2, 2, 1]
    """
    if not isinstance(source, Rows):
        source = check_float_rows("array_pairs", "source", source)
    if not isinstance(target, Rows):
        target = check_float_rows("array_pairs", "target", target)
    if source.shape[0] != target.shape[0]:
        raise ArgumentError(
            "array_pairs(source=..., target=...)",
            "as many target rows as source rows",
            f"{source.shape[0]} and {target.shape[0]}",
            "row i of both must be one anchor",
        )
    n = source.shape[0]
    for name, values in (("weights", weights), ("group", group)):
        if not (values is None or callable(values)) and np.shape(values) != (n,):
            raise ArgumentError(
                f"array_pairs({name}=...)",
                f"shape ({n},)",
                np.shape(values),
                "give one number a row",
            )
    return PairSlices(
        source, target, weights, group, batch_size, check_rows(n, rows, batch_size)
    )


def check_rows(n: int, rows: range | None, batch_size: int) -> range:
    """Return the rows to walk over.

    Raises:
      ValueError: if they are not among `n`, or a batch holds none.
    """
    if batch_size < 1:
        raise ArgumentError(f"batch_size={batch_size}", "at least 1 row a batch")
    rows = range(n) if rows is None else rows
    if rows.step != 1 or not 0 <= rows.start <= rows.stop <= n:
        raise ArgumentError(
            f"rows={rows}", f"consecutive rows of the {n} that there are"
        )
    return rows


def process_rows(n: int, index: int, count: int, *, multiple: int = 1) -> range:
    """Return the rows of one of several processes: consecutive, about as many each.

    Args:
      n: rows of all.
      index: of the process, from 0.
      count: how many there are.
      multiple: shares begin at multiples of this, such as the batch size.

    Raises:
      ValueError: if there is no such process.

    >>> [process_rows(10, k, 3, multiple=2) for k in range(3)]
    [range(0, 2), range(2, 6), range(6, 10)]
    """
    if not 0 <= index < count:
        raise ArgumentError(
            f"process_rows(index={index}, count={count})",
            "an index from 0 and below the count",
            remedy="pass `jax.process_index()` and `jax.process_count()`",
        )
    units = -(-n // multiple)
    first, stop = (min(k * units // count * multiple, n) for k in (index, index + 1))
    return range(first, stop)
