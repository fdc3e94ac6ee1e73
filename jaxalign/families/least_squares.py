# SPDX-License-Identifier: Apache-2.0
"""Least squares from rows: the linear map of the least error on its own anchors."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from jaxalign.anchors.anchors import Anchors
from jaxalign.array_types import Modality
from jaxalign.families.family import Family, Needs, Solved
from jaxalign.families.row_measures import centred_blocks
from jaxalign.moments import Moments
from jaxalign.solve.least_squares import solve_least_squares
from jaxalign.status import Status


@dataclasses.dataclass(frozen=True)
class LeastSquares(Family):
    """The paper's linear baseline, see `solve_least_squares`; in float64.

    Its matrix is large where rows hardly vary, which a float32 Gram cannot tell from
    rounding: so it is fitted on rows. `Ridge` is the map to use.
    """

    name: ClassVar[str] = "least_squares"
    needs: ClassVar[Needs] = "rows"
    simplicity: ClassVar[int] = 4

    def fit(
        self,
        anchors: Anchors,
        moments: Mapping[Modality, Moments],
        fit_on: Mapping[Modality, float],
        *,
        batch_size: int,
    ) -> Solved:
        """Fit on rows times the roots of their weights."""
        least = solve_least_squares(
            (_times_root(source, weight), _times_root(target, weight))
            for name, of_modality in fit_on.items()
            for source, target, weight in (
                (left, right, of_modality * row_weights)
                for left, right, row_weights in centred_blocks(
                    anchors.rows[name], moments[name], batch_size
                )
            )
        )
        short = least.rank < least.matrix.shape[1]
        status = Status.RANK_DEFICIENT if short else Status.OK
        dtype = next(iter(moments.values())).count.dtype
        return Solved(
            matrix=jnp.asarray(least.matrix, dtype),
            status=jnp.int32(status),
            rank=jnp.int32(least.rank),
        )

    def describe(self) -> str:
        """Say in a few words what the map is."""
        return "least-squares map"


def _times_root(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rows times the roots of their weights, in the rows' own dtype."""
    return (rows * np.sqrt(weight)).astype(rows.dtype)
