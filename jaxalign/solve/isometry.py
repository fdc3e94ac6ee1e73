# SPDX-License-Identifier: Apache-2.0
"""Nearest isometry of a cross-covariance, with its singular values.

What Procrustes needs beyond `polar_factor`: the spectrum, which tells the rank, and a
determinant of +1 on demand. Reference: Kabsch, "A discussion of the solution for the
best rotation to relate two sets of vectors", 1978.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.precise import product
from jaxalign.solve.over_matrices import over_matrices
from jaxalign.solve.polar import PolarMethod, factor_one
from jaxalign.solve.polar_gradient import polar_tangent


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def nearest_isometry(
    cross: Float[Array, "*batch d_target d_source"],
    method: PolarMethod,
    proper: bool,
) -> tuple[
    Float[Array, "*batch d_target d_source"],
    Float[Array, "*batch k"],
    Float[Array, "*batch"],
]:
    """Find the isometry of the largest inner product with `cross`.

    Args:
      cross: shape ``(*batch, d_target, d_source)``, float32 or float64.
      method: static; how the polar factor is computed.
      proper: static; only determinant +1, for square matrices.

    Returns:
      The isometry; the singular values of `cross`, descending, shape ``(*batch, k)``;
      and the steps taken, as floats.

    Notes:
      An iterative method reads the singular values off the symmetric factor ``Q'C``.
      Cost O(d^3) per entry; no collectives if sharded on the batch axes.

    >>> matrix = jnp.diag(jnp.array([3.0, -2.0]))
    >>> bool(jnp.allclose(nearest_isometry(matrix, "svd", True)[0], jnp.eye(2)))
    True
    """
    one = _by_svd if method == "svd" else _by_iteration
    return over_matrices(functools.partial(one, method=method, proper=proper), cross)


@nearest_isometry.defjvp
def _(method, proper, primals, tangents):
    (cross,), (tangent,) = primals, tangents
    rotation, values, steps = nearest_isometry(cross, method, proper)
    turned, slopes = polar_tangent(rotation, cross, tangent)
    return (rotation, values, steps), (turned, slopes, jnp.zeros_like(steps))


def _by_svd(cross, *, method, proper):
    """Multiply the singular vectors, the last pair negated for the determinant."""
    del method
    u, values, vt = jnp.linalg.svd(cross, full_matrices=False)
    # (d_target, k) @ (k, d_source)
    rotation = product(u, vt)
    if proper:
        rotation = _turn_least(rotation, u[:, -1], vt[-1])
    return rotation, values, jnp.zeros((), cross.dtype)


def _by_iteration(cross, *, method, proper):
    """Take the factor Q, and the spectrum of its symmetric companion."""
    rotation, steps, _ = factor_one(cross, method=method)
    tall = cross.shape[0] >= cross.shape[1]
    left, right = (rotation.T, cross) if tall else (cross, rotation.T)
    stretch = product(left, right)
    stretch = 0.5 * (stretch + stretch.T)
    if not proper:
        values = jnp.linalg.eigvalsh(stretch)
        return rotation, _descending(values), steps
    values, vectors = jnp.linalg.eigh(stretch)
    least = vectors[:, 0]
    image = product(rotation, least)
    return _turn_least(rotation, image, least), _descending(values), steps


def _turn_least(rotation, u, v):
    """Negate Q along its weakest pair of singular vectors if it is a reflection."""
    # The determinant of an orthogonal matrix is +-1.
    reflection = jnp.linalg.det(rotation) < 0
    turned = rotation - 2.0 * u[:, None] * v[None, :]
    return jnp.where(reflection, turned, rotation)


def _descending(values):
    """Eigenvalues of a positive matrix as singular values; rounding may be negative."""
    return jnp.maximum(values[::-1], jnp.zeros_like(values))
