# SPDX-License-Identifier: Apache-2.0
"""Rows of norm 1, in float32 or better: what cosines compare."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxalign.array_types import ArrayLike
from jaxalign.float_rows import wide_dtype


def unit_rows(rows: Float[ArrayLike, "*batch d"]) -> Float[Array, "*batch d"]:
    """Divide every row by its Euclidean norm, in float32 or better.

    Args:
      rows: ``(..., d)``, any floating dtype.

    Returns:
      ``(..., d)`` unit rows; a zero row stays zero, so its cosines are 0.
    """
    array = jnp.asarray(rows)
    array = array.astype(wide_dtype(array.dtype))
    norm = jnp.linalg.norm(array, axis=-1, keepdims=True)
    return array / jnp.maximum(norm, float(jnp.finfo(array.dtype).tiny))


def unit_sides(left, right):
    """Unit rows of two sides, in one dtype."""
    left, right = unit_rows(left), unit_rows(right)
    dtype = np.promote_types(left.dtype, right.dtype)
    return left.astype(dtype), right.astype(dtype)
