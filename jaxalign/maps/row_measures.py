# SPDX-License-Identifier: Apache-2.0
"""Scale and residual of a map that moments cannot tell: measured on the rows.

A linear map's matrix is large where rows hardly vary, and products with a float32 Gram
drown in rounding there; an MLP has no matrix at all.
"""

from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import Array, ArrayLike
from jaxalign.maps.anchor_rows import as_float
from jaxalign.moments import Moments
from jaxalign.solve.mlp import residual_layer
from jaxalign.solve.scale import Scale

Carry = Callable[[np.ndarray], np.ndarray]
"""Carries centred rows to centred rows, before any scale."""


def measure_rows(
    sides: tuple[np.ndarray, np.ndarray],
    weights: np.ndarray | None,
    moments: Moments,
    carry: Carry,
    *,
    scale: Scale,
    block: int,
) -> tuple[Array, Array]:
    """Return one modality's scale, and its residual relative to the target energy."""
    spread = product = energy = 0.0
    for source, target, weight in centred_blocks(sides, weights, moments, block):
        carried = np.asarray(carry(source), np.float64)
        spread += np.sum(weight * np.square(carried))
        product += np.sum(weight * carried * target)
        energy += np.sum(weight * np.square(target))
    factor = 1.0
    if scale == "energy":
        factor = float(np.sqrt(energy / spread))
    elif scale == "least_squares":
        factor = float(product / spread)
    residual = energy - 2 * factor * product + factor**2 * spread
    dtype = moments.source_mean.dtype
    relative = max(residual, 0.0) / energy
    return jnp.asarray(factor, dtype), jnp.asarray(relative, dtype)


def centred_blocks(
    sides: tuple[np.ndarray, np.ndarray],
    weights: np.ndarray | None,
    moments: Moments,
    size: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cut rows into blocks about their means, with weights of shape (n, 1)."""
    source, target = sides
    means = np.asarray(moments.source_mean), np.asarray(moments.target_mean)
    for start in range(0, len(source), size):
        rows = slice(start, start + size)
        left = as_float(source[rows]) - means[0]
        weight = np.ones(len(left)) if weights is None else as_float(weights[rows])
        yield left, as_float(target[rows]) - means[1], weight[:, None]


def carry_by(matrix: ArrayLike, mlp: dict[str, Array] | None) -> Carry:
    """Return what a matrix, and an MLP beside it, make of centred rows."""
    transposed = np.asarray(matrix, np.float64).T

    def carry(rows: np.ndarray) -> np.ndarray:
        moved = rows @ transposed
        if mlp is not None:
            moved = moved + np.asarray(residual_layer(mlp, jnp.asarray(rows)))
        return moved

    return carry
