# SPDX-License-Identifier: Apache-2.0
"""One copy from a mapped file to the device: converted, checked and laid out in blocks.

The obvious way (read, cast, transpose, place) holds a large tensor three times. Here
the host holds one block and, on CPU, the array that the device goes on to use.
"""

import hashlib
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxalign.backend import start_backend
from jaxalign.errors import UserError

# What CPU devices ask of memory that they take over instead of copying it.
_ALIGNMENT = 64
_BLOCK_ENTRIES = 1 << 20


class NotWeights(UserError, ValueError):
    """A tensor that holds something else than finite floating numbers."""


def place(tensor: Shaped[np.ndarray, "..."], dtype: str) -> Float[Array, "..."]:
    """Copy a tensor to the default device.

    Args:
      tensor: any strides; a view of a mapped file.
      dtype: of the copy.

    Returns:
      The copy.

    Raises:
      NotWeights: if the tensor is not floating, or not finite in `dtype`.
    """
    if not jnp.issubdtype(tensor.dtype, jnp.floating):
        raise NotWeights(f"got {tensor.dtype}")
    host = _aligned_empty(tensor.shape, jnp.dtype(dtype))
    for block in _blocks(tensor.shape):
        # Overflow shows as what is not finite.
        with np.errstate(over="ignore", invalid="ignore"):
            host[block] = tensor[block]
        if not np.isfinite(host[block]).all():
            raise NotWeights("got infinities or NaN")
    start_backend()
    return jax.device_put(host)


def digest_parameters(
    parameters: Iterable[tuple[str, Float[np.ndarray, "..."]]],
) -> bytes:
    """Return sha256 over parameters as float32: path, shape and bytes of each.

    Args:
      parameters: path and value, in the order of the paths; views of files too.

    Returns:
      The digest.
    """
    digest = hashlib.sha256()
    for path, value in parameters:
        digest.update(f"{path} {value.shape}\n".encode())
        for block in _blocks(value.shape):
            digest.update(np.ascontiguousarray(value[block], np.float32).tobytes())
    return digest.digest()


def _aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Allocate memory that a CPU device takes over without a copy."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def _blocks(shape: tuple[int, ...]) -> Iterator[slice | tuple]:
    """Cut a shape into slices of its leading axis, of a bounded size."""
    if not shape:
        yield ()
        return
    rows = max(1, _BLOCK_ENTRIES // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], rows):
        yield slice(start, start + rows)
