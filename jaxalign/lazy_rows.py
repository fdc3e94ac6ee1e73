# SPDX-License-Identifier: Apache-2.0
"""Rows that are read when they are asked for: one matrix, wherever it lies.

NumPy's slices and nothing more, so that files, parts of files and columns of tables are
read by the same loops. `numpy.asarray` reads all rows at once.
"""

import abc
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxalign.errors import ArgumentError, check_count

# Rows in another order are picked from so many consecutive ones at a time.
_SPAN = 16384


class Rows(abc.ABC):
    """A matrix ``(n, d)`` of floating numbers, read by slices.

    Attributes:
      shape: ``(n, d)``.
      dtype: of the numbers, as they are stored.
    """

    ndim = 2

    def __init__(self, shape: tuple[int, int], dtype: Any):
        self.shape = (int(shape[0]), int(shape[1]))
        self.dtype = np.dtype(dtype)

    @abc.abstractmethod
    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows ``start`` to ``stop``, which exist; a view where there is one."""

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.shape[0]:,} x {self.shape[1]} {self.dtype})"
        )

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return consecutive rows, ``(m, d)``, or rows by number as `take` does.

        Raises:
          ValueError: for what is neither a slice of step 1 nor numbers of rows.
        """
        if not isinstance(rows, slice):
            return self.take(rows)
        if rows.step not in (None, 1):
            raise ArgumentError(
                f"rows[{rows!r}]",
                "a slice of consecutive rows",
                remedy="pick rows by number with `rows.take(numbers)`",
            )
        start, stop, _ = rows.indices(len(self))
        return self.read(start, max(start, stop))

    def take(self, numbers: Any) -> np.ndarray:
        """Return rows by number, in the order of the numbers.

        Args:
          numbers: ``(m,)`` whole numbers below n.

        Returns:
          ``(m, d)``, a copy.

        Raises:
          ValueError: for anything but one axis of whole numbers.
        """
        numbers = np.asarray(numbers)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu" and numbers.size:
            raise ArgumentError(
                "rows.take(numbers=...)",
                "whole numbers of shape (m,)",
                f"{numbers.dtype} of shape {numbers.shape}",
                "pass `numpy.flatnonzero(mask)` for a mask",
            )
        found = np.empty((len(numbers), self.shape[1]), self.dtype)
        if not len(numbers):
            return found
        order = np.argsort(numbers, kind="stable")
        # Span by span: what lies between rows that are far apart is not kept.
        spans = numbers[order] // _SPAN
        for places in np.split(order, np.flatnonzero(np.diff(spans)) + 1):
            low, high = int(numbers[places[0]]), int(numbers[places[-1]]) + 1
            found[places] = self[low:high][numbers[places] - low]
        return found

    def batches(self, batch_size: int, start: int = 0) -> Iterator[np.ndarray]:
        """Yield consecutive rows in batches; the last may be shorter.

        Args:
          batch_size: rows a batch.
          start: the first row.
        """
        check_count("batches", "batch_size", batch_size, remedy="pass rows a batch")
        for first in range(start, len(self), batch_size):
            yield self[first : first + batch_size]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """Read all rows."""
        return np.asarray(self[:], dtype)


class ArrayRows(Rows):
    """Rows of an array, in memory or mapped from a file."""

    def __init__(self, array: np.ndarray):
        super().__init__(array.shape, array.dtype)
        self._array = array

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return a view."""
        return self._array[start:stop]


class JoinedRows(Rows):
    """Rows of several pieces, one after the other; only what is asked for is joined.

    >>> rows = JoinedRows([ArrayRows(np.eye(3)[:2]), ArrayRows(np.eye(3)[2:])])
    >>> rows.shape, rows[1:].argmax(axis=1).tolist()
    ((3, 3), [1, 2])
    """

    def __init__(self, pieces: Sequence[Rows]):
        self.pieces = [piece for piece in pieces if len(piece)] or list(pieces[:1])
        first = self.pieces[0]
        lengths = map(len, self.pieces)
        self._starts = [0, *itertools.accumulate(lengths)]
        super().__init__((self._starts[-1], first.shape[1]), first.dtype)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return a view where the rows lie in one piece, or else a copy."""
        found = []
        place = int(np.searchsorted(self._starts, start, side="right")) - 1
        for piece, offset in zip(
            self.pieces[place:], self._starts[place:], strict=False
        ):
            first, last = max(start - offset, 0), min(stop - offset, len(piece))
            if first >= last:
                break
            found.append(piece.read(first, last))
        if not found:
            return np.empty((0, self.shape[1]), self.dtype)
        return found[0] if len(found) == 1 else np.concatenate(found)


def join_rows(pieces: Sequence[Rows]) -> Rows:
    """Return pieces of one width as one matrix."""
    return pieces[0] if len(pieces) == 1 else JoinedRows(pieces)


def as_rows(rows: Any) -> Rows:
    """Return `Rows` as they are, and an array as `Rows`."""
    return rows if isinstance(rows, Rows) else ArrayRows(np.asanyarray(rows))


class ChosenRows(Rows):
    """Rows of others by number, in the order of the numbers."""

    def __init__(self, rows: Rows, numbers: np.ndarray):
        super().__init__((len(numbers), rows.shape[1]), rows.dtype)
        self._rows, self._numbers = rows, numbers

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return a copy."""
        return self._rows.take(self._numbers[start:stop])


def chosen_rows(rows: Rows, numbers: np.ndarray | None) -> Rows:
    """Return rows by number; as they lie where the numbers are None."""
    return rows if numbers is None else ChosenRows(rows, numbers)
