# SPDX-License-Identifier: Apache-2.0
r"""Principal angles between two maps: how far they send one direction apart.

For orthonormal :math:`Q_1, Q_2` and a subspace with basis :math:`V`, the singular
values of :math:`(Q_1 - Q_2) V` are :math:`2 \sin(\theta_i / 2)`. For square maps and
the whole space these are the angles of the rotation :math:`Q_2^\top Q_1`.

Reference: Edelman, Arias, Smith, "The geometry of algorithms with orthogonality
constraints", 1998, physics/9806030.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike
from jaxalign.precise import product


class Angles(NamedTuple):
    """Distances between two maps, in radians.

    Attributes:
      largest: the largest principal angle, ``(*batch)``, 0 to pi.
      geodesic: root of the sum of their squares, ``(*batch)``: the length of the
        shortest way from one rotation to the other.
    """

    largest: Float[Array, "*batch"]
    geodesic: Float[Array, "*batch"]


def map_angles(
    rotation: Float[ArrayLike, "*batch d_target d_source"],
    other: Float[ArrayLike, "d_target d_source"],
    basis: Float[ArrayLike, "k r"] | None = None,
) -> Angles:
    """Measure the principal angles at which two maps part, batched over the first.

    Args:
      rotation: orthonormal along its shorter side, ``(..., d_target, d_source)``.
      other: the map to compare with.
      basis: orthonormal columns, or zero ones, of the narrower side's space: angles
        are measured there. Default: all of it.

    Returns:
      The angles.

    Notes:
      Cost O(d^3), singular values alone.

    >>> quarter = jnp.array([[0.0, -1.0], [1.0, 0.0]])
    >>> round(float(map_angles(quarter, jnp.eye(2)).largest), 4)
    1.5708
    """
    apart = jnp.asarray(rotation) - jnp.broadcast_to(other, rotation.shape)
    if other.shape[0] < other.shape[1]:
        apart = jnp.swapaxes(apart, -1, -2)
    if basis is not None:
        apart = product(apart, basis)
    sines = 0.5 * jnp.linalg.svd(apart, compute_uv=False)
    angles = 2.0 * jnp.arcsin(jnp.minimum(sines, jnp.ones_like(sines)))
    return Angles(
        largest=jnp.max(angles, axis=-1),
        geodesic=jnp.sqrt(jnp.sum(jnp.square(angles), axis=-1)),
    )
