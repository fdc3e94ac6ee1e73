# SPDX-License-Identifier: Apache-2.0
"""Few sizes for any number of rows, so that few programs serve all of them.

A jitted function compiles anew for every shape. Rows that come in any number, such as
the queries of a search, are padded to one of few sizes, and the result is cut back.
"""

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import ArrayLike

# Up to here sizes are powers of two; beyond, padding is at most an eighth.
_POWERS = 4096
# Work on so many rows takes longer than a compilation, and a copy of them is large.
_LARGEST = 1 << 17
_SMALLEST = 16


def bucket_size(n: int) -> int:
    """Round a number of rows up to one of few sizes.

    >>> [bucket_size(n) for n in (3, 100, 4097, 200_001)]
    [16, 128, 4608, 200001]
    """
    if n > _LARGEST:
        return n
    power = 1 << max(n - 1, 0).bit_length()
    if n <= _POWERS:
        return max(_SMALLEST, power)
    step = power // 16
    return -(-n // step) * step


def pad_to_bucket(rows: ArrayLike) -> ArrayLike:
    """Append rows of zeros up to a `bucket_size`; what must not be padded stays.

    Traced rows have one shape anyway, and rows split over devices stay where they are.

    Args:
      rows: ``(n, ...)``.
    """
    if keeps_shape(rows) or not rows.ndim:
        return rows
    return pad_to_size(rows, bucket_size(rows.shape[0]))


def keeps_shape(*arrays: ArrayLike | None) -> bool:
    """Tell whether an array is traced or split over devices, so must not be padded."""
    return any(
        isinstance(array, jax.core.Tracer)
        or (isinstance(array, jax.Array) and len(array.sharding.device_set) > 1)
        for array in arrays
    )


def pad_to_size(rows: ArrayLike, size: int, fill: int | float = 0) -> ArrayLike:
    """Append rows of one value up to a size, in the memory where the rows are."""
    tail = size - rows.shape[0]
    if not tail:
        return rows
    widths = ((0, tail),) + ((0, 0),) * (rows.ndim - 1)
    if isinstance(rows, np.ndarray):
        return np.pad(rows, widths, constant_values=fill)
    if _on_cpu(rows):
        # Without a program: padding by JAX would compile one for every number.
        padded = np.pad(np.asarray(rows), widths, constant_values=fill)
        return _put_like(padded, rows)
    return jnp.pad(rows, widths, constant_values=fill)


def first_rows(array: jax.Array, n: int, columns: int | None = None) -> jax.Array:
    """Return the first `n` rows of a result, undoing `pad_to_bucket`.

    Args:
      array: ``(m, ...)``, m at least n.
      n: rows to keep.
      columns: to keep of the second axis; None: all.
    """
    kept = (n,) if columns is None else (n, columns)
    if array.shape[: len(kept)] == kept:
        return array
    places = tuple(slice(length) for length in kept)
    if not isinstance(array, jax.core.Tracer) and _on_cpu(array):
        # The same memory, without a program for every number.
        return _put_like(np.asarray(array)[places], array)
    return array[places]


def _on_cpu(array: jax.Array) -> bool:
    """Tell whether an array lies in one piece in the host's memory."""
    devices = array.sharding.device_set
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"


def _put_like(host: np.ndarray, array: jax.Array) -> jax.Array:
    """Make an array where another is; committed to its device only if that is."""
    return jax.device_put(host, array.sharding if array.committed else None)
