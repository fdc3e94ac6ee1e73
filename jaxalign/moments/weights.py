# SPDX-License-Identifier: Apache-2.0
"""Weights of rows as users bring them: one check for every call that takes some."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import native_floats

_KINDS = (jnp.floating, jnp.integer, jnp.bool_)


def row_weights(call: str, weights: object, rows: int) -> ArrayLike:
    """Validate the weights of rows, and return them in a dtype that JAX takes.

    Args:
      call: named in the error, such as ``"update_moments"``.
      weights: numbers of at least 0, or a mask. Values on a device are not read.
      rows: how many there must be.

    Raises:
      ValueError: if `weights` is no array of that length, of real numbers or booleans,
        or one of them is negative.
    """
    if not isinstance(weights, jax.Array | np.ndarray):
        remedy = "convert it with `numpy.asarray`"
        raise ArgumentError(
            f"{call}(weights=...)", "an array", type(weights).__name__, remedy
        )
    if weights.shape != (rows,):
        expected = f"shape ({rows},)"
        remedy = "pass one weight per row, 0 for padding"
        raise ArgumentError(f"{call}(weights=...)", expected, weights.shape, remedy)
    if not any(jnp.issubdtype(weights.dtype, kind) for kind in _KINDS):
        expected = "real numbers or a mask"
        remedy = "pass floats, counts or booleans"
        raise ArgumentError(f"{call}(weights=...)", expected, weights.dtype, remedy)
    if isinstance(weights, np.ndarray) and weights.size and weights.min() < 0:
        expected = "numbers of at least 0"
        got = f"{weights.min():.3g}"
        remedy = "take rows out by `subtract_moments`"
        raise ArgumentError(f"{call}(weights=...)", expected, got, remedy)
    return native_floats(weights)
