# SPDX-License-Identifier: Apache-2.0
r"""Retractions: walk from a point along a tangent vector and end on the manifold.

The last piece of each optimiser's step. All agree with the geodesic to first order;
they differ in cost and in what they keep. Reference: Absil, Mahony, Sepulchre,
"Optimization Algorithms on Matrix Manifolds", 2008, section 4.1.
"""

import typing
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.stiefel.cayley import retract_cayley, retract_cayley_iterative
from jaxalign.stiefel.polar_step import polar_of_step
from jaxalign.stiefel.qr_step import qr_of_step
from jaxalign.stiefel.shapes import as_given, as_tall, check_pair

Retraction = Literal["qr", "polar", "cayley", "cayley_iterative"]
RETRACTIONS: tuple[str, ...] = typing.get_args(Retraction)


def retract(
    point: Float[ArrayLike, "*batch rows columns"],
    tangent: Float[ArrayLike, "*batch rows columns"],
    *,
    method: Retraction = "polar",
) -> Float[Array, "*batch rows columns"]:
    """Walk from a point along a tangent vector by the retraction that is named.

    Args:
      point: shape ``(..., rows, columns)``, orthonormal along the shorter side.
      tangent: tangent at `point`, of the same shape.
      method: static; ``"polar"`` is the nearest point to ``point + tangent``, and
        takes the drift off `point` as well; ``"qr"`` orthonormalises its columns one
        after the other; ``"cayley"`` turns by an exact transform,
        ``"cayley_iterative"`` by an approximate one that needs products alone.

    Returns:
      The point reached, in the point's dtype and component.

    Raises:
      ArgumentError: if the two are not floating matrices of one shape, or `method` is
        unknown.

    Notes:
      Costs are those of `retract_polar`, `retract_qr`, `retract_cayley` and
      `retract_cayley_iterative`. No collectives if sharded on batch axes.

    >>> turn = jnp.array([[0.0, 0.75], [-0.75, 0.0]])
    >>> reached = retract(jnp.eye(2), turn, method="qr")
    >>> bool(jnp.allclose(reached, jnp.array([[0.8, 0.6], [-0.6, 0.8]])))
    True
    """
    if method == "qr":
        return retract_qr(point, tangent)
    if method == "polar":
        return retract_polar(point, tangent)
    if method == "cayley":
        return retract_cayley(point, tangent)
    if method == "cayley_iterative":
        return retract_cayley_iterative(point, tangent)
    raise ArgumentError(
        f"retract(method={method!r})",
        f"one of {RETRACTIONS}",
        remedy="leave it out for 'polar', which needs products alone",
    )


def retract_qr(
    point: Float[ArrayLike, "*batch rows columns"],
    tangent: Float[ArrayLike, "*batch rows columns"],
) -> Float[Array, "*batch rows columns"]:
    r"""Orthonormalise the sum column by column: the factor Q of :math:`X + \xi`.

    Args:
      point: :math:`X`, shape ``(..., rows, columns)``, orthonormal along the shorter
        side; wide points are transposed.
      tangent: :math:`\xi`, tangent at `point`, of the same shape.

    Returns:
      The point reached, in the point's dtype.

    Raises:
      ArgumentError: if the two are not floating matrices of one shape.

    Notes:
      Unique, since R's diagonal is made positive; of first order. A short step (of
      spectral norm up to 1 or so) costs one product, a Cholesky factor and a triangular
      solve, a long one a Householder factorisation as well. Batched, it is sequential
      on CPU. No collectives if sharded on batch axes.

    >>> reached = retract_qr(jnp.eye(2)[:, :1], jnp.array([[0.0], [0.75]]))
    >>> bool(jnp.allclose(reached, jnp.array([[0.8], [0.6]])))
    True
    """
    check_pair("retract_qr", "tangent", point, tangent)
    return _qr(jnp.asarray(point), jnp.asarray(tangent))


@jax.jit
def _qr(point, tangent):
    """Factorise the sum."""
    q, _ = qr_of_step(as_tall(point) + as_tall(tangent))
    return as_given(q, point)


def retract_polar(
    point: Float[ArrayLike, "*batch rows columns"],
    tangent: Float[ArrayLike, "*batch rows columns"],
) -> Float[Array, "*batch rows columns"]:
    r"""Go to the point nearest to the sum: the polar factor of :math:`X + \xi`.

    .. math:: R(\xi) = (X + \xi) (I + \xi^\top \xi)^{-1/2}

    Args:
      point: :math:`X`, shape ``(..., rows, columns)``, orthonormal along the shorter
        side; wide points are transposed.
      tangent: :math:`\xi`, tangent at `point`, of the same shape.

    Returns:
      The point reached, in the point's dtype; orthonormal to rounding even where
      `point` was not quite, so that drift does not add up.

    Raises:
      ArgumentError: if the two are not floating matrices of one shape.

    Notes:
      Of second order in the Euclidean metric. Products alone, fitted to the length
      that is measured: in float32, 2 for tangent vectors of spectral norm up to 0.03,
      3 up to 0.1, 5 up to 0.3, 8 at 1, 14 at 10, 24 at 1e3; in float64, 2 up to 2e-4,
      3 up to 3e-3, 5 up to 0.05, 9 at 1, 27 at 1e3. All but the first and the last of
      a step are p x p. Steps beyond 1 / eps leave no trace of `point`, and those whose
      fourth power overflows (4e9 in float32) give NaN. Batched, it is sequential on CPU
      and elsewhere goes by the longest step. No collectives if sharded on batch axes.
      The derivative takes one symmetric eigendecomposition.

    References:
      Absil, Mahony, Sepulchre, "Optimization Algorithms on Matrix Manifolds", 2008,
      section 4.1.

    >>> reached = retract_polar(jnp.eye(2)[:, :1], jnp.array([[0.0], [0.75]]))
    >>> bool(jnp.allclose(reached, jnp.array([[0.8], [0.6]])))
    True
    """
    check_pair("retract_polar", "tangent", point, tangent)
    return _polar(jnp.asarray(point), jnp.asarray(tangent))


@jax.jit
def _polar(point, tangent):
    """Factorise the sum."""
    moved = as_tall(point) + as_tall(tangent)
    return as_given(polar_of_step(moved), point)
