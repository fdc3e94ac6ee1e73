# SPDX-License-Identifier: Apache-2.0
"""Scale and residual of a map that moments cannot tell: measured on the rows.

The matrix of a least-squares map is large where rows hardly vary, and products with a
float32 Gram drown in rounding there. A perceptron has no matrix at all.
"""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from jaxalign.anchors.inspection import as_float
from jaxalign.anchors.paired_rows import PairedRows
from jaxalign.families.family import Solved
from jaxalign.moments import Moments
from jaxalign.solve.mlp import residual_layer
from jaxalign.solve.scale import Scale


def measure_rows(
    rows: PairedRows, moments: Moments, solved: Solved, *, scale: Scale, batch_size: int
) -> tuple[float, float]:
    """Return one modality's scale, and its residual relative to the target energy."""
    transposed = np.asarray(solved.matrix, np.float64).T
    spread = product = energy = 0.0
    for source, target, weight in centred_blocks(rows, moments, batch_size):
        carried = source @ transposed
        if solved.residual is not None:
            layer = residual_layer(solved.residual, jnp.asarray(source))
            carried = carried + np.asarray(layer, np.float64)
        spread += np.sum(weight * np.square(carried))
        product += np.sum(weight * carried * target)
        energy += np.sum(weight * np.square(target))
    factor = {
        "none": 1.0,
        "energy": np.sqrt(energy / spread),
        "least_squares": product / spread,
    }[scale]
    residual = energy - 2 * factor * product + factor**2 * spread
    return float(factor), max(float(residual), 0.0) / float(energy)


def centred_blocks(
    rows: PairedRows, moments: Moments, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cut rows into blocks about their means, with weights of shape (n, 1)."""
    means = np.asarray(moments.source_mean), np.asarray(moments.target_mean)
    for start in range(0, len(rows), size):
        block = slice(start, start + size)
        left = as_float(rows.source[block]) - means[0]
        right = as_float(rows.target[block]) - means[1]
        weight = np.ones(len(left))
        if rows.weights is not None:
            weight = as_float(rows.weights[block])
        yield left, right, weight[:, None]
