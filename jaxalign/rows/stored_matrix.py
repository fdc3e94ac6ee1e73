# SPDX-License-Identifier: Apache-2.0
"""A matrix that lies in a file as plain numbers: mapped, or read by ranges of bytes."""

import math
import threading

import numpy as np

from jaxalign.errors import ArgumentError
from jaxalign.lazy_rows import ArrayRows, Rows
from jaxalign.rows.places import Place


def stored_matrix(
    where: str,
    place: Place,
    *,
    offset: int,
    shape: tuple[int, int],
    dtype: np.dtype,
    fortran: bool = False,
) -> Rows:
    """Return the rows of a matrix in a file.

    Args:
      where: the call, for errors.
      place: the file.
      offset: of the first number, in bytes.
      shape: ``(n, d)``.
      dtype: of the numbers, of either byte order.
      fortran: whether columns lie together instead of rows.

    Raises:
      ValueError: if the file is too short.
    """
    end = offset + math.prod(shape) * dtype.itemsize
    if place.size() < end:
        raise ArgumentError(
            where,
            f"{end:,} bytes in {place.base}, as its header says",
            f"{place.size():,}",
            "the file is cut off: copy or write it again",
        )
    if not math.prod(shape):
        return ArrayRows(np.empty(shape, dtype))
    order = "F" if fortran else "C"
    if place.local is not None:
        mapped = np.memmap(
            place.local, dtype, mode="r", offset=offset, shape=shape, order=order
        )
        return ArrayRows(mapped)
    if fortran:
        with place.open() as stream:
            stream.seek(offset)
            numbers = np.frombuffer(stream.read(end - offset), dtype)
        return ArrayRows(numbers.reshape(shape, order="F"))
    return _RemoteRows(place, offset, shape, dtype)


class _RemoteRows(Rows):
    """Rows of a file that cannot be mapped."""

    def __init__(
        self, place: Place, offset: int, shape: tuple[int, int], dtype: np.dtype
    ):
        super().__init__(shape, dtype)
        self._stream, self._offset = place.open(), offset
        self._lock = threading.Lock()

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read rows."""
        row_bytes = self.shape[1] * self.dtype.itemsize
        with self._lock:
            self._stream.seek(self._offset + start * row_bytes)
            data = self._stream.read((stop - start) * row_bytes)
        return np.frombuffer(data, self.dtype).reshape(stop - start, self.shape[1])
