# SPDX-License-Identifier: Apache-2.0
r"""Polar factor of a point plus a tangent vector, in as few products as the step needs.

For a tangent vector :math:`\xi` the Gram matrix of :math:`X + \xi` is
:math:`I + \xi^\top \xi`: its singular values are at least one, and just above it for
the short steps of an optimiser. So the inverse root of the Gram matrix is a polynomial
of low degree, fitted to the spread that is measured: `solve.polar` in a special case.

References: Higham, "Functions of Matrices", 2008, chapter 8 (Newton-Schulz); Absil,
Mahony, Sepulchre, "Optimization Algorithms on Matrix Manifolds", 2008, section 4.1.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jaxalign.array_types import Array
from jaxalign.precise import product
from jaxalign.solve.over_matrices import over_matrices
from jaxalign.solve.polar_gradient import polar_tangent
from jaxalign.stiefel.shapes import flip

# The least eigenvalue from which Newton-Schulz, free of bounds, does better than a fit.
_NEAR = 0.8

# A fit over any interval leaves no eigenvalue of the Gram matrix further above 1: the
# singular values overshoot by 30 % at most.
_OVERSHOOT = 0.7


@jax.custom_jvp
def polar_of_step(
    moved: Float[Array, "*batch rows columns"],
) -> Float[Array, "*batch rows columns"]:
    r"""Compute the polar factor of matrices with singular values of about 1 or more.

    Args:
      moved: :math:`X + \xi`, ``rows >= columns``, float32 or float64.

    Returns:
      The factor, orthonormal to rounding; NaN where `moved` is not finite.

    Notes:
      See `retract_polar` for the number of products. Sequential on CPU; elsewhere a
      batch takes as many steps as its longest tangent vector needs. No collectives if
      sharded on batch axes (`over_matrices`). Differentiable to any order.

    >>> factor = polar_of_step(jnp.array([[3.0], [4.0]]))
    >>> bool(jnp.allclose(factor, jnp.array([[0.6], [0.8]])))
    True
    """
    (factor,) = over_matrices(factor_one_step, moved)
    return factor


@polar_of_step.defjvp
def _(primals, tangents):
    (moved,), (change,) = primals, tangents
    factor = polar_of_step(moved)
    return factor, polar_tangent(factor, moved, change)[0]


def factor_one_step(moved: Float[Array, "rows columns"]) -> tuple[Array]:
    """Compute `polar_of_step` of one matrix, not differentiable.

    Fitted steps while the eigenvalues of the Gram matrix are known to be spread, then
    Newton-Schulz until it is orthonormal.
    """
    eps = float(jnp.finfo(moved.dtype).eps)
    # Should a step leave values near 0, they grow by 15/8 each.
    limit = math.ceil(-math.log(eps) / math.log(15.0 / 8.0)) + 4
    identity = jnp.eye(moved.shape[-1], dtype=moved.dtype)

    def step(state):
        current, steps, low, _ = state
        missing = identity - product(flip(current), current)
        longest = _longest_row(missing)
        # What the linear term leaves out is 3/8 E^2, no entry above longest^2.
        (square,) = if_needed(
            0.375 * longest * longest > eps,
            lambda: (product(missing, missing),),
            (jnp.zeros_like(missing),),
        )
        # Likewise 5/16 E^3; NaN compares false and ends the loop.
        unfinished = 0.3125 * longest * _longest_row(square) > eps
        fitted = unfinished & ((steps == 0) | (low < _NEAR))
        bound = _norm_bound(square)
        spread = jnp.where(steps == 0, bound, jnp.minimum(bound, _OVERSHOOT))
        above = jnp.where(fitted, spread, 0.0)
        below = jnp.where(fitted, low - 1.0, 0.0)
        constant, linear, quadratic = _inverse_root(below, above)
        # As an addition, where what is right already is not to be rounded again; a
        # long step would cancel against it.
        kept = jnp.where(above <= 1.0, 1.0, 0.0).astype(current.dtype)
        change = linear * missing + quadratic * square
        change = change + (constant + (1.0 - kept)) * identity
        found = kept * current + product(current, change)
        # The polynomial of degree 3 that a fit leaves out; where it is that small,
        # all of the interval is near 1.
        left_out = 0.3125 / 32.0 * (above - below) ** 3
        unfinished = unfinished & ~(fitted & (left_out <= eps))
        short = 1.0 - low
        low = low * (1.0 + constant + (linear + quadratic * short) * short) ** 2
        return found, steps + 1, low, unfinished

    def unfinished(state):
        _, steps, _, more = state
        return more & (steps < limit)

    start = (moved, jnp.int32(0), jnp.ones((), moved.dtype), jnp.bool_(True))
    return (jax.lax.while_loop(unfinished, step, start)[0],)


def _inverse_root(below, above):
    r"""Fit :math:`g^{-1/2}` by a quadratic for g from 1 + `below` to 1 + `above`.

    Interpolation at the Chebyshev nodes, by divided differences without cancellation;
    Taylor's, if both are 0. In powers of e = 1 - g, and the constant less 1.
    """
    first, middle, last = (
        below + 0.5 * (above - below) * (1.0 + math.cos((2 * k + 1) * math.pi / 6))
        for k in range(3)
    )
    a, b, c = (jnp.sqrt(1.0 + node) for node in (first, middle, last))
    slope = 1.0 / (a * b * (a + b))
    curvature = (a + b + c) / (a * b * c * (a + b) * (b + c) * (a + c))
    constant = first * (slope + middle * curvature - 1.0 / (a * (1.0 + a)))
    return constant, slope + (first + middle) * curvature, curvature


def if_needed(
    needed: Bool[Array, ""],
    compute: Callable[[], tuple[Array, ...]],
    otherwise: tuple[Array, ...],
) -> tuple[Array, ...]:
    """Compute a tuple, or not if no entry of a batch asks for it.

    A loop of one turn: `jax.vmap` of `lax.cond` would compute it in any case.
    """
    return jax.lax.while_loop(
        lambda state: state[0],
        lambda state: (jnp.zeros_like(needed), compute()),
        (needed, otherwise),
    )[1]


def _longest_row(matrix):
    """Largest Euclidean norm of a row: at most the spectral norm."""
    return jnp.sqrt(jnp.max(jnp.sum(matrix * matrix, axis=-1)))


def _norm_bound(square):
    """Bound the spectral norm of a symmetric matrix from above, by its square."""
    sums = jnp.max(jnp.sum(jnp.abs(square), axis=-1))
    return jnp.sqrt(jnp.minimum(sums, jnp.linalg.norm(square)))
