# SPDX-License-Identifier: Apache-2.0
r"""Retractions by the Cayley transform: exact by one solve, or iterated by products.

A tangent vector :math:`\xi` at :math:`X` is :math:`W X` with the skew matrix
:math:`W = P \xi X^\top - X \xi^\top P`, :math:`P = I - X X^\top / 2`, and the Cayley
transform of :math:`W` turns :math:`X` without leaving the manifold, or its component.
The n x n matrix :math:`W` is never formed: the answer lies in the span of :math:`X` and
:math:`\xi`, and its coefficients are p x p.

References: Wen, Yin, "A feasible method for optimization with orthogonality
constraints", 2013; Bendokat, Zimmermann, "The real symplectic Stiefel and Grassmann
manifolds", 2021, arXiv 2108.12447, whose p x p form is carried over; Li, Fuxin,
Todorovic, "Efficient Riemannian optimization on the Stiefel manifold via the Cayley
transform", 2020, arXiv 2002.01113.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import check_count
from jaxalign.precise import product
from jaxalign.solve.over_matrices import over_matrices
from jaxalign.stiefel.polar_step import factor_one_step, if_needed
from jaxalign.stiefel.shapes import as_given, as_tall, check_pair, flip

# Entry of the matrix to be solved with, 1 for no step, above which digits are lost.
_LONG = 4.0


def retract_cayley(
    point: Float[ArrayLike, "*batch rows columns"],
    tangent: Float[ArrayLike, "*batch rows columns"],
) -> Float[Array, "*batch rows columns"]:
    r"""Walk from a point along a tangent vector by the exact Cayley transform.

    With ``point`` :math:`X` and ``tangent`` :math:`\xi` it is

    .. math:: R(\xi) = (I - W/2)^{-1} (I + W/2) X
        = -X + (2 X + \xi_\perp) (I + \xi_\perp^\top \xi_\perp / 4 - A / 2)^{-1},

    :math:`A = X^\top \xi`, :math:`\xi_\perp = \xi - X A`. Wide points are transposed.

    Args:
      point: shape ``(..., rows, columns)``, orthonormal along the shorter side.
      tangent: tangent at `point`, of the same shape.

    Returns:
      The point reached, in the point's dtype.

    Raises:
      ArgumentError: if the two are not floating matrices of one shape.

    Notes:
      Of second order in the canonical metric. A square point costs one d x d product
      and one solve (4/3 of a product's work); a tall one three products of n x p
      with p x p and one p x p solve with n right sides. Steps of a norm of 5 or more,
      whose solve loses digits, take two products more to be orthonormal. No
      collectives if sharded on batch axes.

    References:
      Wen, Yin, "A feasible method for optimization with orthogonality constraints",
      2013.

    >>> turn = jnp.array([[0.0, 2.0], [-2.0, 0.0]])
    >>> bool(jnp.allclose(retract_cayley(jnp.eye(2), turn), turn / 2, atol=1e-6))
    True
    """
    check_pair("retract_cayley", "tangent", point, tangent)
    return _cayley(jnp.asarray(point), jnp.asarray(tangent))


@jax.jit
def _cayley(point, tangent):
    """Solve for the coefficients in the span of the point and the tangent."""
    x, xi = as_tall(point), as_tall(tangent)
    inner, turn = _turn(x, xi)
    identity = jnp.eye(x.shape[-1], dtype=x.dtype)
    matrix = jnp.broadcast_to(identity, turn.shape) - 0.5 * turn
    doubled = 2.0 * x
    if x.shape[-2] > x.shape[-1]:
        across = xi - product(x, inner)
        matrix = matrix + 0.25 * product(flip(across), across)
        doubled = doubled + across
    # (p, p) x (p, n): from the right, by transposition
    found = flip(jnp.linalg.solve(flip(matrix), flip(doubled))) - x
    return as_given(_made_orthonormal(found, matrix), point)


def _made_orthonormal(found, matrix):
    """Take off what the solve of a long step, ill-conditioned, has lost."""
    size = jnp.max(jnp.abs(matrix), axis=(-2, -1))
    row = jnp.broadcast_to(size[..., None, None], (*size.shape, 1, found.shape[-1]))
    # One array for `over_matrices`: the size travels as one more row.
    stacked = jax.lax.stop_gradient(jnp.concatenate([found, row], axis=-2))
    (better,) = over_matrices(_unless_short, stacked)
    # A change by rounding, of which the derivative knows nothing.
    return found + (better - jax.lax.stop_gradient(found))


def _unless_short(stacked):
    """Polar factor of the rows but the last, if that says so."""
    found, size = stacked[:-1], stacked[-1, 0]
    return if_needed(size > _LONG, lambda: factor_one_step(found), (found,))


def retract_cayley_iterative(
    point: Float[ArrayLike, "*batch rows columns"],
    tangent: Float[ArrayLike, "*batch rows columns"],
    *,
    iterations: int = 2,
) -> Float[Array, "*batch rows columns"]:
    r"""Approach the Cayley transform by products alone.

    From :math:`Y = X + \xi`, `iterations` rounds of
    :math:`Y \leftarrow X + \tfrac{1}{2} W (X + Y)`, with ``point`` :math:`X` and
    ``tangent`` :math:`\xi`.

    Args:
      point: shape ``(..., rows, columns)``, orthonormal along the shorter side.
      tangent: tangent at `point`, of the same shape.
      iterations: static, at least 0.

    Returns:
      The point reached, in the point's dtype, on the manifold up to the error below.

    Raises:
      ArgumentError: if the two are not floating matrices of one shape, or `iterations`
        is negative.

    Notes:
      The error is of the order of :math:`\|W/2\|^{k+2}` after :math:`k` rounds: it
      falls only if :math:`\|W\| < 2` (spectral norm; a square point's
      :math:`\|\xi\|`), is small only for steps well below, and beyond grows with each
      round: the result then is off the manifold, without a sign of it, and
      `retract_cayley` is the one to use. Errors of many steps add up; bring the point
      back now and then (`solve.polar`). A square point costs ``iterations + 2``
      products, a tall one four of n x p with p x p, and two of p x p a round. No
      collectives if sharded on batch axes.

    References:
      Li, Fuxin, Todorovic, "Efficient Riemannian optimization on the Stiefel manifold
      via the Cayley transform", 2020, arXiv 2002.01113.

    >>> turn = jnp.array([[0.0, 0.1], [-0.1, 0.0]])
    >>> near = retract_cayley_iterative(jnp.eye(2), turn, iterations=4)
    >>> bool(jnp.allclose(near, retract_cayley(jnp.eye(2), turn), atol=1e-6))
    True
    """
    check_pair("retract_cayley_iterative", "tangent", point, tangent)
    check_count("retract_cayley_iterative", "iterations", iterations, least=0)
    arrays = jnp.asarray(point), jnp.asarray(tangent)
    return _cayley_iterative(*arrays, iterations=iterations)


@functools.partial(jax.jit, static_argnames="iterations")
def _cayley_iterative(point, tangent, *, iterations):
    """Iterate on the coefficients of Y = X (I + C) + xi_perp (I + D)."""
    x, xi = as_tall(point), as_tall(tangent)
    if iterations == 0:
        return as_given(x + xi, point)
    inner, turn = _turn(x, xi)
    # The start X + xi; the first round's product is A A.
    within, half = turn, product(turn, turn)
    if x.shape[-2] == x.shape[-1]:
        for k in range(iterations):
            within = turn + 0.5 * (half if k == 0 else product(turn, within))
        return as_given(x + product(x, within), point)
    # xi_perp' xi_perp
    gram = product(flip(xi), xi) + half
    beside = jnp.zeros_like(turn)
    for k in range(iterations):
        # From W (X + Y) / 2 = xi_perp (I + C / 2)
        #   + X (A + (A C - xi_perp' xi_perp (I + D)) / 2)
        inward = half - gram
        if k > 0:
            inward = product(turn, within) - (gram + product(gram, beside))
        within, beside = turn + 0.5 * inward, 0.5 * within
    # xi_perp = xi - X X' xi is not formed: one product of n x p less.
    within = within - inner - product(inner, beside)
    found = x + (xi + product(x, within) + product(xi, beside))
    return as_given(found, point)


def _turn(x, xi):
    """X' xi, and A: skew to the last bit, or its transform is not orthogonal."""
    inner = product(flip(x), xi)
    return inner, 0.5 * (inner - flip(inner))
