# SPDX-License-Identifier: Apache-2.0
r"""Distance between points along the manifold, in the canonical metric.

What says how far apart two fitted maps are. Square points: from the angles of the turn
between them. Others: by the matrix-algebraic Riemannian logarithm.

References: Edelman, Arias, Smith, "The geometry of algorithms with orthogonality
constraints", 1998, arXiv physics/9806030; Zimmermann, "A matrix-algebraic algorithm for
the Riemannian logarithm on the Stiefel manifold under the canonical metric", 2017,
arXiv 1604.05054.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike
from jaxalign.precise import product
from jaxalign.solve.over_matrices import over_matrices
from jaxalign.stiefel.shapes import as_tall, check_pair

_ROUNDS = 200


def geodesic_distance(
    left: Float[ArrayLike, "*batch rows columns"],
    right: Float[ArrayLike, "*batch rows columns"],
) -> Float[Array, "*batch"]:
    r"""Measure the distance between points, in the canonical metric.

    Square points: with the angles :math:`\theta_i` of the eigenvalues of
    :math:`R = X^\top Y` it is :math:`\sqrt{\sum_i \theta_i^2 / 2}`. Others: the
    canonical norm of the tangent vector at ``left`` :math:`X` whose geodesic ends in
    ``right`` :math:`Y` at time 1.

    Args:
      left: shape ``(..., rows, columns)``, orthonormal along the shorter side; wide
        points are transposed.
      right: of the same shape.

    Returns:
      The distances, shape ``(...)``, in float32 at least. Square points of different
      components: infinite. Other points: NaN where the iteration does not converge. It
      is proved to for points near each other alone; tangent vectors of spectral norm
      up to 1.5 were all found in trials, 3 of 60 not at 2, and none of a turn by
      pi, as between a single column and its negative.

    Raises:
      ArgumentError: if the two are not floating matrices of one shape.

    Notes:
      Square points: right to a few eps from 0 to :math:`\pi`, since every angle is
      taken from its sine and its cosine; two sets of singular values, O(d^3). Others:
      O(n p^2), then up to 200 rounds of one singular value decomposition of 2 p x 2 p.
      Beyond the injectivity radius a geodesic that is found need not be the shortest.
      First derivatives only, and none at distance 0, given as 0. No collectives if
      sharded on batch axes.

    References:
      Zimmermann, "A matrix-algebraic algorithm for the Riemannian logarithm on the
      Stiefel manifold under the canonical metric", 2017, arXiv 1604.05054.

    >>> quarter = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> round(float(geodesic_distance(jnp.eye(2), quarter)), 4)
    1.5708
    """
    check_pair("geodesic_distance", "right", left, right)
    return _distance(jnp.asarray(left), jnp.asarray(right))


@jax.jit
def _distance(left, right):
    """Distance of batches, by the shape."""
    x, y = as_tall(left), as_tall(right)
    dtype = np.promote_types(x.dtype, y.dtype)
    both = jnp.concatenate([x.astype(dtype), y.astype(dtype)], axis=-1)
    return _with_slopes(both)


@jax.custom_jvp
def _with_slopes(both):
    """Distance of the two halves of the columns."""
    return over_matrices(_distance_one, both)[0]


@_with_slopes.defjvp
def _(primals, tangents):
    distance, slopes = over_matrices(_slopes_one, primals[0])
    return distance, jnp.sum(slopes * tangents[0], axis=(-2, -1))


def _distance_one(both):
    """Distance of one pair."""
    x, y = jnp.split(both, 2, axis=-1)
    if x.shape[0] > x.shape[1]:
        return (_slopes_one(both)[0],)
    change, turn = _turn(x, y)
    angles = _angles(change)
    return (_unless_apart(jnp.linalg.norm(angles) / math.sqrt(2.0), turn),)


def _slopes_one(both):
    """Distance of one pair, and its derivative in the entries of both points."""
    x, y = jnp.split(both, 2, axis=-1)
    change, turn = _turn(x, y)
    if x.shape[0] == x.shape[1]:
        turned = _logarithm(change)
        distance = _unless_apart(jnp.linalg.norm(turned) / math.sqrt(2.0), turn)
        start, end = -0.5 * product(x, turned), 0.5 * product(y, turned)
    else:
        turned, beside, frame, moved = _tall_logarithm(x, y, change, turn)
        distance = jnp.sqrt(0.5 * jnp.sum(turned**2) + jnp.sum(beside**2))
        within = 0.5 * product(x, turned)
        velocity = jnp.concatenate([turned, beside])
        # Both velocities of the geodesic, times I - X X' / 2 of the metric.
        start = -within - product(frame[:, x.shape[1] :], beside)
        end = product(frame, product(moved, velocity)) - 0.5 * product(y, turned)
    apart = (distance > 0) & jnp.isfinite(distance)
    scale = jnp.where(apart, 1.0 / jnp.where(apart, distance, 1.0), 0.0)
    # A distance that was not found has no derivative.
    scale = jnp.where(jnp.isnan(distance), distance, scale)
    return distance, scale * jnp.concatenate([start, end], axis=-1)


def _turn(x, y):
    """X'Y - I and X'Y; by the difference, which near points leave exact."""
    change = product(x.T, y - x)
    return change, change + jnp.eye(change.shape[-1], dtype=change.dtype)


def _angles(change):
    """Angles of an orthogonal matrix R, from R - I; each one of a plane comes twice."""
    identity = jnp.eye(change.shape[-1], dtype=change.dtype)
    # 2 sin(theta / 2) descending, 2 cos(theta / 2) ascending: paired.
    sines = jnp.linalg.svd(change, compute_uv=False)
    cosines = jnp.linalg.svd(change + 2.0 * identity, compute_uv=False)[::-1]
    return 2.0 * jnp.arctan2(sines, cosines)


def _unless_apart(distance, turn):
    """Infinite between the components of the orthogonal group."""
    sign, _ = jnp.linalg.slogdet(turn)
    return jnp.where(sign < 0, jnp.inf, distance)


def _logarithm(change):
    r"""Principal logarithm of an orthogonal matrix R, from R - I.

    R is normal: the left singular vectors of R - I belong to R + I as well, and those
    of an angle :math:`\theta` have the values 2 sin and 2 cos of its half.
    """
    u, sines, _ = jnp.linalg.svd(change)
    identity = jnp.eye(change.shape[-1], dtype=change.dtype)
    cosines = jnp.linalg.norm(product((change + 2.0 * identity).T, u), axis=0)
    # theta / sin(theta), 1 at 0; at pi R has more logarithms than one.
    doubled = sines * cosines
    safe = doubled > float(jnp.finfo(change.dtype).tiny)
    ratio = 4.0 * jnp.arctan2(sines, cosines) / jnp.where(safe, doubled, 1.0)
    ratio = jnp.where(safe, ratio, jnp.where(sines < 1.0, 1.0, 0.0))
    skew = 0.5 * (change - change.T)
    found = product(product(u * ratio[None, :], u.T), skew)
    return 0.5 * (found - found.T)


def _tall_logarithm(x, y, change, turn):
    """Logarithm at X of Y: its parts within and beside X, its frame, and the turn."""
    p = x.shape[1]
    across = (y - x) - product(x, change)
    # Householder's Q is orthonormal even where `across` is all rounding.
    frame, _ = jnp.linalg.qr(jnp.concatenate([x, across], axis=1))
    frame = jnp.concatenate([x, frame[:, p:]], axis=1)
    columns = jnp.concatenate([turn, product(frame[:, p:].T, across)])
    rest = jnp.linalg.qr(columns, mode="complete")[0][:, p:]
    # Start from the completion nearest to the identity, in its component.
    u, _, vt = jnp.linalg.svd(rest[p:])
    rest = product(rest, product(vt.T, u.T))
    sign, _ = jnp.linalg.slogdet(jnp.concatenate([columns, rest], axis=1))
    last = u[:, -1:]
    rest = rest - jnp.where(sign < 0, 2.0, 0.0) * product(product(rest, last), last.T)
    identity = jnp.eye(columns.shape[0], dtype=x.dtype)
    small = 2.0 * columns.shape[0] * float(jnp.finfo(x.dtype).eps)

    def improve(state):
        rest, _, rounds = state
        log = _logarithm(jnp.concatenate([columns, rest], axis=1) - identity)
        excess = log[p:, p:]
        unit = identity[p:, p:]
        # exp(-C) to second order, and orthogonal.
        back = jnp.linalg.solve(unit + 0.5 * excess, unit - 0.5 * excess)
        return product(rest, back), log, rounds + 1

    def unfinished(state):
        _, log, rounds = state
        return (jnp.linalg.norm(log[p:, p:]) > small) & (rounds < _ROUNDS)

    start = improve((rest, identity, jnp.int32(0)))
    rest, log, _ = jax.lax.while_loop(unfinished, improve, start)
    failed = ~(jnp.linalg.norm(log[p:, p:]) <= small)
    # A turn by pi has no principal logarithm: its angle, pi^2 here, would be missing.
    moved = jnp.concatenate([columns, rest], axis=1)
    failed |= jnp.sum(_angles(moved - identity) ** 2) - jnp.sum(log**2) > 1.0
    log = jnp.where(failed, jnp.nan, log)
    return log[:p, :p], log[p:, :p], frame, moved
