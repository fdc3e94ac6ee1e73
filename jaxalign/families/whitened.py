# SPDX-License-Identifier: Apache-2.0
r"""The whitened orthogonal family: a partial isometry found in whitened coordinates.

The polar factor of :math:`(S_y + l_y)^{-1/4} C (S_x + l_x)^{-1/2}`, cut at the rank
that the anchors have. Distances within the part that it keeps are kept, as by
`Orthogonal`; which directions these are is decided with the spread of either side
taken out, in part.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxalign.errors import check_number
from jaxalign.families.family import Family, Needs, Solved, ridge_words, status_of
from jaxalign.moments import Moments
from jaxalign.precise import product
from jaxalign.solve.covariances import Covariances, covariances, ridged_power
from jaxalign.solve.leading_directions import leading_directions
from jaxalign.solve.one_by_one import one_by_one
from jaxalign.solve.polar import thin_svd
from jaxalign.solve.scale import ORTHOGONAL_SCALE, Directions, Scale
from jaxalign.status import Status


@dataclasses.dataclass(frozen=True)
class Whitened(Family):
    r"""Identified part of the orthogonal map between whitened rows.

    Attributes:
      ridge: factor of the ridges tr(S) / n, above 0.

    Notes:
      Two eigendecompositions and an SVD, O(d^3) a batch entry. The default scale is
      "energy".
    """

    name: ClassVar[str] = "whitened"
    needs: ClassVar[Needs] = "grams"
    simplicity: ClassVar[int] = 1

    ridge: float = 1.0

    def __post_init__(self):
        ridge = check_number("Whitened", "ridge", self.ridge, above=0.0)
        object.__setattr__(self, "ridge", ridge)

    @property
    def default_scale(self) -> Scale:
        """Aligned rows get the spread of the target rows."""
        return ORTHOGONAL_SCALE

    @property
    def may_be_partial(self) -> bool:
        """The map keeps what the anchors determine only."""
        return True

    def solve(self, moments: Moments) -> Solved:
        """Solve, batched over leading axes; the ridge is data."""
        return _solve(covariances("Whitened.solve", moments, ridge=self.ridge))

    def describe(self) -> str:
        """Say in a few words what the map is."""
        name = "identified part of the whitened orthogonal map"
        return name + ridge_words(self.ridge)


@jax.jit
def _solve(parts: Covariances) -> Solved:
    """Solve one entry after the other."""
    return one_by_one(_solve_one, (parts,), parts.rows.shape)


def _solve_one(parts: Covariances) -> Solved:
    """Take the polar factor between whitened rows, as far as they determine it."""
    of_source, least_x = ridged_power(parts.source, parts.source_ridge, -0.5)
    of_target, least_y = ridged_power(parts.target, parts.target_ridge, -0.25)
    between = product(product(of_target, parts.cross), of_source)
    rank = parts.rank(thin_svd(between)[1], least_x * least_y)
    u, v = leading_directions(between, rank)
    # (..., d_target, k) @ (..., k, d_source)
    matrix = product(u, jnp.swapaxes(v, -1, -2))
    finite = jnp.all(jnp.isfinite(matrix), axis=(-2, -1))
    status = status_of(finite, parts.rows)
    short = (status == Status.OK) & (rank < min(matrix.shape[-2:]))
    return Solved(
        matrix=matrix,
        status=jnp.where(short, jnp.int32(Status.RANK_DEFICIENT), status),
        rank=rank,
        directions=Directions(u, v, rank),
        structure="partial_isometry",
    )
