# SPDX-License-Identifier: Apache-2.0
"""Covariances of anchors with a ridge: what scorers whiten by.

Anchors are fewer than dimensions more often than not, and their covariance then has no
inverse. A ridge of the mean energy that one anchor adds, tr(S) / n, makes it one.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxalign.array_types import Array
from jaxalign.moments import Moments
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass
from jaxalign.solve.gram_spectrum import check_grams


@pytree_dataclass
class Covariances:
    r"""Covariances of both sides and across, with the ridge of either side.

    Attributes:
      source: :math:`S_x`, ``(*batch, d_source, d_source)``, without its ridge.
      target: :math:`S_y`, ``(*batch, d_target, d_target)``, without its ridge.
      cross: :math:`C`, ``(*batch, d_target, d_source)``.
      source_ridge: :math:`l_x`, ``(*batch)``.
      target_ridge: :math:`l_y`, ``(*batch)``.
      rows: number of anchors, ``(*batch)``.
    """

    source: Float[Array, "*batch d_source d_source"]
    target: Float[Array, "*batch d_target d_target"]
    cross: Float[Array, "*batch d_target d_source"]
    source_ridge: Float[Array, "*batch"]
    target_ridge: Float[Array, "*batch"]
    rows: Int[Array, "*batch"]

    @property
    def ridged_source(self) -> Float[Array, "*batch d_source d_source"]:
        r""":math:`S_x + l_x I`."""
        return add_ridge(self.source, self.source_ridge)

    @property
    def ridged_target(self) -> Float[Array, "*batch d_target d_target"]:
        r""":math:`S_y + l_y I`."""
        return add_ridge(self.target, self.target_ridge)

    def rank(
        self,
        singular_values: Float[Array, "*batch k"],
        *,
        source_power: float,
        target_power: float,
    ) -> Int[Array, "*batch"]:
        r"""Directions of :math:`(S_y + l_y)^{-q} C (S_x + l_x)^{-p}` above rounding.

        n anchors determine n - 1 at most. Beyond the rank of C the product holds its
        rounding alone, which the powers of the ridges enlarge.

        Args:
          singular_values: of the product, descending.
          source_power: p.
          target_power: q.
        """
        largest = jnp.sqrt(jnp.sum(jnp.square(self.cross), axis=(-2, -1)))
        grown = largest / (
            self.source_ridge**source_power * self.target_ridge**target_power
        )
        eps = float(jnp.finfo(singular_values.dtype).eps)
        above = singular_values > _ROUNDING * eps * grown[..., None]
        rank = jnp.sum(above, axis=-1, dtype=jnp.int32)
        return jnp.minimum(rank, jnp.maximum(self.rows - 1, 0))


# Singular values of rounding alone, in eps of the norm of C.
_ROUNDING = 4.0
# A Cholesky factor in the dtype exists above d eps tr(S) / 10 or so.
_LEAST_RIDGE = 0.1


def covariances(
    call: str, moments: Moments, *, ridge: float | Float[Array, ""] = 1.0
) -> Covariances:
    r"""Divide moments by their count, and set ridges of ``ridge * tr(S) / n``.

    Args:
      call: named in errors.
      moments: with Grams, batched over leading axes.
      ridge: factor of the mean energy an anchor, above 0. n is the number of rows,
        whatever their weights.

    Raises:
      ValueError: for moments without Grams.
    """
    check_grams(call, moments)
    return _covariances(moments, ridge)


@jax.jit
def _covariances(moments: Moments, ridge) -> Covariances:
    """Divide; jitted whole, since eager calls would compile each operation."""
    count = moments.count[..., None, None]
    safe = jnp.where(count > 0, count, jnp.ones_like(count))
    grams = moments.source_gram, moments.target_gram
    assert grams[0] is not None
    assert grams[1] is not None
    source, target = grams[0] / safe, grams[1] / safe
    rows = jnp.maximum(moments.rows, 1).astype(moments.count.dtype)
    eps = float(jnp.finfo(moments.count.dtype).eps)

    def ridge_of(gram):
        trace = jnp.trace(gram, axis1=-2, axis2=-1)
        least = _LEAST_RIDGE * gram.shape[-1] * eps
        return trace * jnp.maximum(ridge / rows, least)

    return Covariances(
        source=source,
        target=target,
        cross=moments.cross_covariance / safe,
        source_ridge=ridge_of(source),
        target_ridge=ridge_of(target),
        rows=moments.rows,
    )


def ridged_power(
    covariance: Float[Array, "*batch d d"],
    ridge: Float[Array, "*batch"],
    power: float,
) -> Float[Array, "*batch d d"]:
    r"""Compute :math:`(S + l I)^p` of a covariance, by its eigenvectors; O(d^3)."""
    values, vectors = jnp.linalg.eigh(covariance)
    # Rounding leaves values below 0.
    raised = (jnp.maximum(values, 0.0) + ridge[..., None]) ** power
    # (..., d, d) @ (..., d, d)
    return product(vectors * raised[..., None, :], jnp.swapaxes(vectors, -1, -2))


def add_ridge(
    covariance: Float[Array, "*batch d d"], ridge: Float[Array, "*batch"]
) -> Float[Array, "*batch d d"]:
    """Add a multiple of the identity."""
    identity = jnp.eye(covariance.shape[-1], dtype=covariance.dtype)
    identity = jnp.broadcast_to(identity, covariance.shape)
    return covariance + ridge[..., None, None] * identity
