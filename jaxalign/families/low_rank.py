# SPDX-License-Identifier: Apache-2.0
r"""Reduced-rank ridge regression: the best linear map of a given rank.

References:
  Izenman, "Reduced-rank regression for the multivariate linear model", 1975; Mukherjee,
  Zhu, "Reduced rank ridge regression and its kernel extensions", 2011.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxalign.errors import check_count, check_number
from jaxalign.families.family import Family, Needs, Solved, status_of
from jaxalign.moments import Moments
from jaxalign.precise import product
from jaxalign.solve.gram_spectrum import GramSpectrum, check_grams


@dataclasses.dataclass(frozen=True)
class LowRank(Family):
    r"""Ridge regression of rank r, :math:`M_r = U_r U_r^\top C (G_x + l I)^{-1}`.

    :math:`U_r` are the leading left singular vectors of
    :math:`C (G_x + l I)^{-1/2}`. Of all matrices of rank r this one minimises the
    penalised error.

    Attributes:
      rank: r, at least 1; at the full width it is `Ridge`.
      strength: l relative to the mean eigenvalue of the source Gram, above 0.
    """

    name: ClassVar[str] = "low_rank"
    needs: ClassVar[Needs] = "grams"
    simplicity: ClassVar[int] = 3

    rank: int
    strength: float = 0.1

    def __post_init__(self):
        rank = check_count(
            "LowRank", "rank", self.rank, remedy="Ridge(strength) is of full rank"
        )
        strength = check_number("LowRank", "strength", self.strength, above=0.0)
        object.__setattr__(self, "rank", rank)
        object.__setattr__(self, "strength", strength)

    def solve(self, moments: Moments) -> Solved:
        """Solve, batched over leading axes; rank and strength are data."""
        check_grams("LowRank.solve", moments)
        return _solve(moments, jnp.int32(self.rank), float(self.strength))

    def describe(self) -> str:
        """Say in a few words what the map is."""
        return f"ridge map of rank {self.rank}"


@jax.jit
def _solve(moments, rank, strength):
    """Project the ridge solution on its leading left singular vectors."""
    spectrum = GramSpectrum.of(moments)
    inverse = spectrum.inverse(jnp.full_like(moments.count, strength))
    # In the eigenbasis of the Gram: (..., d_target, d_source)
    u, _, _ = jnp.linalg.svd(
        spectrum.turned * jnp.sqrt(inverse)[..., None, :], full_matrices=False
    )
    places = jax.lax.broadcasted_iota(jnp.int32, u.shape, u.ndim - 1)
    u = jnp.where(places < rank, u, jnp.zeros_like(u))
    ridge = spectrum.matrix(jnp.full_like(moments.count, strength))
    within = product(jnp.swapaxes(u, -1, -2), ridge)
    matrix = product(u, within)
    finite = jnp.all(jnp.isfinite(matrix), axis=(-2, -1))
    return Solved(
        matrix=matrix,
        status=status_of(finite, moments.rows),
        rank=jnp.broadcast_to(jnp.minimum(rank, u.shape[-1]), moments.groups),
    )
