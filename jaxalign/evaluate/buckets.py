# SPDX-License-Identifier: Apache-2.0
"""Size buckets: inputs of nearly one size share a compiled program.

XLA compiles a program for each shape. So what comes from outside jit is padded to one
of a few sizes first, and results are cut. Programs take the number of real rows as an
array, and mask the others.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxalign.array_types import ArrayLike

# Beyond the last bucket, copying rows would cost more than compiling for their number.
LAST = 8192
_STEP = 1024


def bucket(count: int, least: int = 256) -> int:
    """Size to pad `count` rows to where little work hangs on a row.

    Args:
      count: of rows.
      least: 8, 64 or 256, the first bucket.

    >>> [bucket(count) for count in (1, 256, 257, 1000, 1025, 8193)]
    [256, 256, 512, 1024, 2048, 8193]
    """
    for size in (8, 64, 256, 512, _STEP):
        if least <= size and count <= size:
            return size
    return count if count > LAST else -(-count // _STEP) * _STEP


def close_bucket(count: int) -> int:
    """Size to pad `count` rows to where much work hangs on a row: less than twice.

    >>> [close_bucket(count) for count in (1, 9, 17, 1000, 1025, 8193)]
    [8, 16, 32, 1024, 2048, 8193]
    """
    if count > _STEP:
        return bucket(count)
    return max(8, 1 << (count - 1).bit_length())


def keeps_shape(*arrays: ArrayLike | None) -> bool:
    """Tell whether an array is traced, or lies on several devices.

    A traced array belongs to a program of the caller's, which is compiled for its shape
    anyway. One that lies on several devices would lose its sharding.
    """
    return any(
        isinstance(array, Tracer)
        or (isinstance(array, jax.Array) and len(array.sharding.device_set) > 1)
        for array in arrays
    )


def bucket_for(*arrays: ArrayLike | None, least: int = 256) -> Callable[[int], int]:
    """Return `bucket`, or the identity if one of the arrays has to keep its shape."""
    return int if keeps_shape(*arrays) else functools.partial(bucket, least=least)


def pad_rows(array: ArrayLike, size: int, fill: int | float = 0) -> ArrayLike:
    """Pad the first axis to `size`, in the host's memory if the array is there."""
    count = array.shape[0]
    if count == size:
        return array
    if isinstance(array, jax.Array) and not _on_host(array):
        tail = ((0, size - count),) + ((0, 0),) * (array.ndim - 1)
        return jnp.pad(array, tail, constant_values=fill)
    padded = np.full((size, *array.shape[1:]), fill, array.dtype)
    padded[:count] = np.asarray(array)
    return _beside(array, padded)


def cut(result: jax.Array, *shape: int) -> jax.Array:
    """Keep the leading part of a result, of which the rest comes of padding."""
    if result.shape == shape:
        return result
    kept = tuple(slice(0, length) for length in shape)
    if not _on_host(result):
        return result[kept]
    # A slice by JAX would be one more program for each shape.
    return _beside(result, np.asarray(result)[kept])


def _on_host(array: Any) -> bool:
    """Tell whether NumPy can read a JAX array without a transfer."""
    if isinstance(array, Tracer):
        return False
    devices = array.sharding.device_set
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"


def _beside(array: ArrayLike, values: np.ndarray) -> Any:
    """Put values where an array was put; leave them to JAX if nobody chose a place."""
    if not isinstance(array, jax.Array):
        return values
    if array.committed:
        return jax.device_put(values, array.sharding)
    return jax.device_put(values)
