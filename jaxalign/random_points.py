# SPDX-License-Identifier: Apache-2.0
"""Uniform draws of matrices with orthonormal columns or rows.

On the ground floor: planted data and optimisers draw by the same code. Reference:
Mezzadri, "How to generate random matrices from the classical compact groups", 2007,
arXiv math-ph/0609050.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array


def draw_orthonormal(
    key: jax.Array,
    shape: tuple[int, ...],
    *,
    determinant: Literal[1, -1] | None = None,
    dtype: Any = None,
) -> Float[Array, "*batch rows columns"]:
    """Draw matrices with orthonormal columns (rows, if fewer), uniformly.

    Args:
      key: of the draw.
      shape: ``(*batch, rows, columns)``.
      determinant: of square matrices: +1 or -1, uniform within that component; by
        default either comes up, as in the whole group.
      dtype: float32 or float64; by default the wider one that is enabled.

    Returns:
      The matrices.

    Notes:
      By QR of Gaussian matrices, O(rows * columns * min(rows, columns)) each.

    >>> drawn = draw_orthonormal(jax.random.key(0), (3, 3), determinant=-1)
    >>> round(float(jnp.linalg.det(drawn)), 4)
    -1.0
    """
    *batch, rows, columns = shape
    tall = (*batch, max(rows, columns), min(rows, columns))
    dtype = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
    q, r = jnp.linalg.qr(jax.random.normal(key, tall, dtype))
    # The sign of R's diagonal makes QR unique, and the draw uniform.
    diagonal = jnp.diagonal(r, axis1=-2, axis2=-1)
    q = q * jnp.where(diagonal < 0, -1.0, 1.0).astype(dtype)[..., None, :]
    if determinant is not None:
        flip = jnp.sign(jnp.linalg.det(q)) * float(determinant)
        q = q.at[..., :, 0].multiply(flip.astype(dtype)[..., None])
    return q if rows >= columns else jnp.swapaxes(q, -1, -2)
