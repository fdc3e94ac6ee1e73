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
        smallest: Float[Array, "*batch"],
    ) -> Int[Array, "*batch"]:
        r"""Directions of a whitened C, :math:`A C B`, that are above rounding.

        n anchors determine n - 1 at most. Beyond the rank of C the product holds its
        rounding alone, which A and B enlarge by at most their norms.

        Args:
          singular_values: of the product, descending.
          smallest: :math:`1 / (|A| |B|)`, an estimate.
        """
        # Squares of single entries could overflow.
        most = jnp.max(jnp.abs(self.cross), axis=(-2, -1), keepdims=True)
        shares = self.cross / jnp.where(most > 0, most, jnp.ones_like(most))
        size = jnp.sqrt(jnp.sum(jnp.square(shares), axis=(-2, -1)))
        size = size * most[..., 0, 0]
        eps = float(jnp.finfo(singular_values.dtype).eps)
        above = singular_values > (_ROUNDING * eps * size / smallest)[..., None]
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
) -> tuple[Float[Array, "*batch d d"], Float[Array, "*batch"]]:
    r"""Compute :math:`(S + l I)^p` of a covariance, by its eigenvectors; O(d^3).

    Returns:
      The power, and the smallest eigenvalue to -p: one over the norm of it, for p < 0.
    """
    values, vectors = jnp.linalg.eigh(covariance)
    # Rounding leaves values below 0.
    raised = (jnp.maximum(values, 0.0) + ridge[..., None]) ** power
    # (..., d, d) @ (..., d, d)
    whole = product(vectors * raised[..., None, :], jnp.swapaxes(vectors, -1, -2))
    return whole, 1.0 / jnp.max(raised, axis=-1)


def smallest_of(lower: Float[Array, "*batch d d"]) -> Float[Array, "*batch"]:
    """Estimate the smallest singular value of a Cholesky factor, by its diagonal."""
    return jnp.min(jnp.diagonal(lower, axis1=-2, axis2=-1), axis=-1)


def add_ridge(
    covariance: Float[Array, "*batch d d"], ridge: Float[Array, "*batch"]
) -> Float[Array, "*batch d d"]:
    """Add a multiple of the identity."""
    identity = jnp.eye(covariance.shape[-1], dtype=covariance.dtype)
    identity = jnp.broadcast_to(identity, covariance.shape)
    return covariance + ridge[..., None, None] * identity
