# SPDX-License-Identifier: Apache-2.0
r"""Derivative of the polar factor, finite where singular values are tied.

With :math:`C = Q H` (``H`` symmetric, positive), :math:`Q^\top dQ = \Omega` is skew
and solves :math:`H \Omega + \Omega H = Q^\top dC - dC^\top Q`; across the columns of Q
the derivative is :math:`(I - Q Q^\top) dC H^{-1}`. Only SUMS of singular values are
divided by: the differences that spoil the derivative of an SVD at a tie never appear.

Reference: Higham, "Functions of Matrices", 2008, chapter 8 (polar decomposition).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.precise import product


def polar_tangent(
    factor: Float[Array, "*batch rows columns"],
    matrix: Float[Array, "*batch rows columns"],
    tangent: Float[Array, "*batch rows columns"],
) -> tuple[Float[Array, "*batch rows columns"], Float[Array, "*batch k"]]:
    r"""Differentiate the polar factor and the singular values along `tangent`.

    Args:
      factor: Q; of determinant +1 by choice, if the smallest singular value was negated
        for it.
      matrix: C, of which Q is the factor; wide or tall.
      tangent: dC.

    Returns:
      dQ, and the derivatives of the singular values in descending order.

    Notes:
      Where a sum of two singular values is rounding, Q is arbitrary there and its
      derivative is given as 0. Right to any order: the two linear systems are solved
      by `jax.lax.custom_linear_solve`, whose own derivative does not look into the
      eigenvectors it uses. (The second derivative of single singular values does, and
      does not exist at a tie.)
    """
    if factor.shape[-2] < factor.shape[-1]:
        found, values = polar_tangent(_flip(factor), _flip(matrix), _flip(tangent))
        return _flip(found), values
    stretch = product(_flip(factor), matrix)
    stretch = 0.5 * (stretch + _flip(stretch))
    values, vectors = jnp.linalg.eigh(stretch)
    inner = product(_flip(factor), tangent)
    turn = _solve_symmetric(
        lambda x: product(stretch, x) + product(x, stretch),
        lambda b, v, w: _between(
            v, _between(_flip(v), b, v) * _sums_inverse(w), _flip(v)
        ),
        inner - _flip(inner),
        vectors,
        values,
    )
    outer = _solve_symmetric(
        lambda x: product(x, stretch),
        lambda b, v, w: _between(b, v * _inverse(w, w)[..., None, :], _flip(v)),
        tangent - product(factor, inner),
        vectors,
        values,
    )
    # (..., k): v' (Q' dC) v, by column of V
    slopes = jnp.sum(vectors * product(inner, vectors), axis=-2) * jnp.sign(values)
    order = jnp.argsort(-jnp.abs(values), axis=-1)
    return product(factor, turn) + outer, jnp.take_along_axis(slopes, order, axis=-1)


def _solve_symmetric(operator, inverse, right, vectors, values):
    """Solve by the eigenvectors, and be differentiated as the system itself."""
    vectors, values = jax.lax.stop_gradient((vectors, values))

    def solve(_, b):
        return inverse(b, vectors, values)

    return jax.lax.custom_linear_solve(operator, right, solve, symmetric=True)


def _sums_inverse(values):
    """1 / (s_i + s_j), and 0 where the sum is rounding."""
    return _inverse(values[..., :, None] + values[..., None, :], values)


def _inverse(divisor, values):
    """1 / divisor, and 0 where it is rounding beside the largest of `values`."""
    eps = float(jnp.finfo(values.dtype).eps)
    cutoff = values.shape[-1] * eps * jnp.max(jnp.abs(values), axis=-1)
    cutoff = cutoff.reshape(cutoff.shape + (1,) * (divisor.ndim - cutoff.ndim))
    # Strict comparison fails for NaN too, which shows in the factor itself.
    kept = jnp.abs(divisor) > cutoff
    return jnp.where(kept, 1.0 / jnp.where(kept, divisor, 1.0), 0.0)


def _between(left, middle, right):
    """Product of three matrices."""
    return product(product(left, middle), right)


def _flip(matrix):
    """Transpose of the last two axes."""
    return jnp.swapaxes(matrix, -1, -2)
