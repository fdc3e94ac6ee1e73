# SPDX-License-Identifier: Apache-2.0
"""Linear maps of a user's anchors: the strength and the matrix.

A ridge of 0 is solved on rows, in float64: its matrix is large where rows hardly vary,
which a float32 Gram cannot tell from rounding.
"""

from typing import Any

import numpy as np

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.maps.anchor_moments import (
    Pairs,
    Weights,
    moments_of,
    pool_weighted,
)
from jaxalign.maps.folds import fold_rows
from jaxalign.maps.row_measures import centred_blocks
from jaxalign.moments import Moments
from jaxalign.solve.least_squares import solve_least_squares
from jaxalign.solve.linear import solve_linear
from jaxalign.solve.ridge_choice import choose_ridge
from jaxalign.status import Status

RIDGE_FOLDS = 5


def solve_anchors(
    pairs: Pairs,
    moments: dict[Modality, Moments],
    *,
    ridge: float | None,
    weights: Weights,
    modality_weights: dict[Modality, float],
    groups: dict[Modality, np.ndarray],
    batch_size: int,
) -> tuple[ArrayLike, dict[str, Any]]:
    """Return the matrix of a linear map, and what there is to note of it.

    Args:
      pairs: the modalities to fit on.
      moments: at least of these, with Grams.
      ridge: as `solve_linear` takes it; None chooses it on folds of the anchors.
      weights: of rows.
      modality_weights: of the modalities in `pairs`.
      groups: rows of one group stay in one fold.
      batch_size: rows a batch.
    """
    if ridge is None:
        folds = _folds(pairs, weights, modality_weights, groups, batch_size)
        ridge = float(choose_ridge(folds).ridge)
    pooled = pool_weighted(moments, modality_weights)
    if ridge == 0:
        # Least squares of rows times the roots of their weights.
        least = solve_least_squares(
            (_times_root(source, weight), _times_root(target, weight))
            for name, sides in pairs.items()
            for source, target, weight in (
                (left, right, modality_weights[name] * row_weights)
                for left, right, row_weights in centred_blocks(
                    sides, weights.get(name), moments[name], batch_size
                )
            )
        )
        matrix = least.matrix.astype(pooled.cross_covariance.dtype)
        rank, short = least.rank, least.rank < matrix.shape[1]
        status = Status.RANK_DEFICIENT if short else Status.OK
    else:
        solution = solve_linear(pooled, ridge=ridge).check()
        matrix, rank = solution.matrix, int(solution.rank)
        status = Status(int(solution.status))
    return matrix, {"ridge": ridge, "rank": rank, "status": status.name}


def _times_root(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rows times the roots of their weights, in the rows' own dtype."""
    return (rows * np.sqrt(weight)).astype(rows.dtype)


def _folds(pairs, weights, modality_weights, groups, batch_size) -> list[Moments]:
    """Moments of disjoint folds of the anchors; each fold pools the modalities."""
    sizes = {name: source.shape[0] for name, (source, _) in pairs.items()}
    if min(sizes.values()) < 2 * RIDGE_FOLDS:
        raise ValueError(
            f"`fit_map(ridge=None)`: expected at least {2 * RIDGE_FOLDS} anchors to "
            f"choose the ridge on, got {min(sizes.values())}; pass ridge, such as 0.1."
        )
    fold_of_row = fold_rows(sizes, groups, RIDGE_FOLDS)
    count = 1 + max(int(numbers.max()) for numbers in fold_of_row.values())
    if count < 2:
        raise ValueError(
            "`fit_map(ridge=None, groups=...)`: expected at least 2 groups to choose "
            "the ridge on, got 1; pass ridge, such as 0.1."
        )
    folds = []
    for fold in range(count):
        parts = {}
        for name, (source, target) in pairs.items():
            rows = np.flatnonzero(fold_of_row[name] == fold)
            of_rows = weights[name][rows] if name in weights else None
            parts[name] = moments_of(
                source[rows], target[rows], of_rows, grams=True, batch_size=batch_size
            )
        folds.append(pool_weighted(parts, modality_weights))
    return folds
