# SPDX-License-Identifier: Apache-2.0
"""Linear maps of a user's anchors: the strength, the matrix, and how well it does.

Everything that a ridge of 0 touches is computed on rows, in float64: its matrix is
large where rows hardly vary, and products with a float32 Gram drown in rounding there.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike, Modality
from jaxalign.maps.anchor_moments import Pairs, moments_of, pool_moments
from jaxalign.maps.checks import as_float
from jaxalign.moments import Moments
from jaxalign.solve.least_squares import solve_least_squares
from jaxalign.solve.linear import solve_linear
from jaxalign.solve.ridge_choice import choose_ridge
from jaxalign.solve.scale import Scale
from jaxalign.status import Status

RIDGE_FOLDS = 5


def solve_anchors(
    pairs: Pairs,
    moments: dict[Modality, Moments],
    *,
    ridge: float | None,
    batch_size: int,
) -> tuple[Any, dict[str, Any]]:
    """Return the matrix of a linear map, and what there is to note of it.

    Args:
      pairs: the modalities to fit on.
      moments: at least of these, with Grams.
      ridge: as `solve_linear` takes it; None chooses it on folds of the anchors.
      batch_size: rows a batch.
    """
    if ridge is None:
        ridge = float(choose_ridge(_folds(pairs, batch_size)).ridge)
    pooled = functools.reduce(pool_moments, [moments[name] for name in pairs])
    if ridge == 0:
        least = solve_least_squares(
            block
            for name, sides in pairs.items()
            for block in _centred(sides, moments[name], batch_size)
        )
        matrix = least.matrix.astype(pooled.cross_covariance.dtype)
        rank, short = least.rank, least.rank < matrix.shape[1]
        status = Status.RANK_DEFICIENT if short else Status.OK
    else:
        solution = solve_linear(pooled, ridge=ridge).check()
        matrix, rank = solution.matrix, int(solution.rank)
        status = Status(int(solution.status))
    return matrix, {"ridge": ridge, "rank": rank, "status": status.name}


def measure_linear(
    sides: tuple[np.ndarray, np.ndarray],
    moments: Moments,
    matrix: Float[ArrayLike, "d_target d_source"],
    *,
    scale: Scale,
    block: int,
) -> tuple[Array, Array]:
    """Return one modality's scale, and its residual relative to the target energy."""
    transposed = np.asarray(matrix, np.float64).T
    spread = product = energy = 0.0
    for source, target in _centred(sides, moments, block):
        carried = source @ transposed
        spread += np.sum(np.square(carried))
        product += np.sum(carried * target)
        energy += np.sum(np.square(target))
    factor = 1.0
    if scale == "energy":
        factor = float(np.sqrt(energy / spread))
    elif scale == "least_squares":
        factor = float(product / spread)
    residual = energy - 2 * factor * product + factor**2 * spread
    dtype = moments.source_mean.dtype
    relative = max(residual, 0.0) / energy
    return jnp.asarray(factor, dtype), jnp.asarray(relative, dtype)


def _centred(sides, moments, size) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut rows into blocks about their means."""
    source, target = sides
    means = np.asarray(moments.source_mean), np.asarray(moments.target_mean)
    for start in range(0, len(source), size):
        rows = slice(start, start + size)
        yield as_float(source[rows]) - means[0], as_float(target[rows]) - means[1]


def _folds(pairs, batch_size) -> list[Moments]:
    """Moments of disjoint folds of the anchors; each fold pools the modalities."""
    smallest = min(source.shape[0] for source, _ in pairs.values())
    if smallest < 2 * RIDGE_FOLDS:
        raise ValueError(
            f"`fit_map(ridge=None)`: expected at least {2 * RIDGE_FOLDS} anchors to "
            f"choose the ridge on, got {smallest}; pass ridge, such as 0.1."
        )
    folds = []
    for fold in range(RIDGE_FOLDS):
        parts = []
        for source, target in pairs.values():
            # The same split whatever the modality: row i of each may show one thing.
            order = np.random.default_rng(0).permutation(source.shape[0])
            rows = np.sort(order[fold::RIDGE_FOLDS])
            parts.append(
                moments_of(
                    source[rows], target[rows], grams=True, batch_size=batch_size
                )
            )
        folds.append(functools.reduce(pool_moments, parts))
    return folds
