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
    if isinstance(rows, jax.core.Tracer) or not rows.ndim:
        return rows
    tail = bucket_size(rows.shape[0]) - rows.shape[0]
    if not tail or (isinstance(rows, jax.Array) and len(rows.sharding.device_set) > 1):
        return rows
    widths = ((0, tail),) + ((0, 0),) * (rows.ndim - 1)
    if isinstance(rows, np.ndarray):
        return np.pad(rows, widths)
    if _on_cpu(rows):
        # Without a program: padding by JAX would compile one for every number.
        return _put_like(np.pad(np.asarray(rows), widths), rows)
    return jnp.pad(rows, widths)


def first_rows(array: jax.Array, n: int) -> jax.Array:
    """Return the first `n` rows of a result, undoing `pad_to_bucket`."""
    if array.shape[0] == n:
        return array
    if not isinstance(array, jax.core.Tracer) and _on_cpu(array):
        # The same memory, without a program for every number.
        return _put_like(np.asarray(array)[:n], array)
    return array[:n]


def _on_cpu(array: jax.Array) -> bool:
    """Tell whether an array lies in one piece in the host's memory."""
    devices = array.sharding.device_set
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"


def _put_like(host: np.ndarray, array: jax.Array) -> jax.Array:
    """Make an array where another is; committed to its device only if that is."""
    return jax.device_put(host, array.sharding if array.committed else None)
