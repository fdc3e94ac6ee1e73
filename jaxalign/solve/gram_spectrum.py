# SPDX-License-Identifier: Apache-2.0
"""Source Gram in its eigenbasis: one factorisation for the ridges of every strength.

Reference: Golub, Heath, Wahba, "Generalized cross-validation as a method for choosing a
good ridge parameter", 1979.
"""

import jax.numpy as jnp
from jaxtyping import Bool, Float

from jaxalign.array_types import Array
from jaxalign.errors import ArgumentError
from jaxalign.moments import Moments
from jaxalign.moments.statistics import check_moments
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass


@pytree_dataclass
class GramSpectrum:
    """Source Gram in its eigenbasis, ready for any ridge."""

    values: Float[Array, "*batch d_source"]
    kept: Bool[Array, "*batch d_source"]
    vectors: Float[Array, "*batch d_source d_source"]
    turned: Float[Array, "*batch d_target d_source"]

    @classmethod
    def of(cls, moments: Moments) -> "GramSpectrum":
        """Factorise the source Gram, and turn the cross-covariance into its basis."""
        values, vectors = jnp.linalg.eigh(moments.source_gram)
        values = jnp.maximum(values, jnp.zeros_like(values))
        cutoff = (
            values[..., -1:] * values.shape[-1] * float(jnp.finfo(values.dtype).eps)
        )
        # (..., d_target, d_source) @ (..., d_source, d_source)
        turned = product(moments.cross_covariance, vectors)
        return cls(values=values, kept=values > cutoff, vectors=vectors, turned=turned)

    def inverse(self, ridge: Float[Array, "*batch"]) -> Float[Array, "*batch s"]:
        """1 / (eigenvalue + penalty), and 0 for rounding that no penalty holds."""
        penalty = ridge[..., None] * jnp.mean(self.values, axis=-1, keepdims=True)
        used = self.kept | (penalty > 0)
        shifted = jnp.where(used, self.values + penalty, jnp.ones_like(self.values))
        return jnp.where(used, 1.0 / shifted, jnp.zeros_like(shifted))

    def matrix(self, ridge: Float[Array, "*batch"]) -> Float[Array, "*batch t s"]:
        """Least squares with that ridge, ``C (G + penalty I)^-1``."""
        basis = jnp.swapaxes(self.vectors, -1, -2)
        # (..., d_target, d_source) @ (..., d_source, d_source)
        return product(self.turned * self.inverse(ridge)[..., None, :], basis)


def check_grams(call: str, moments: object) -> None:
    """Raise unless `moments` are `Moments` with Gram matrices."""
    if check_moments(call, moments).source_gram is None:
        raise ArgumentError(
            f"{call}(moments=...)",
            "moments with Gram matrices",
            "none",
            "make them by `init_moments(d_source, d_target, grams=True)`",
        )
