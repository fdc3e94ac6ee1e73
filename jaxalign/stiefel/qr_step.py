# SPDX-License-Identifier: Apache-2.0
r"""Factors Q and R of a point plus a tangent vector: by Cholesky for short steps.

Householder's QR leaves the matrix units idle. The Gram matrix of :math:`X + \xi` is
:math:`I + \xi^\top \xi`, so that for short steps it is well conditioned and its
Cholesky factor is R; a long step, whose Gram matrix would lose digits, is factorised
by Householder.

Reference: Yamamoto et al., "Roundoff error analysis of the CholeskyQR2 algorithm",
2015.
"""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.precise import product
from jaxalign.solve.over_matrices import over_matrices
from jaxalign.stiefel.polar_step import if_needed
from jaxalign.stiefel.shapes import flip

# Bound of the eigenvalues of xi'xi: orthogonality is lost in proportion to them.
_SHORT = 16.0


@jax.custom_jvp
def qr_of_step(
    moved: Float[Array, "*batch rows columns"],
) -> tuple[Float[Array, "*batch rows columns"], Float[Array, "*batch columns columns"]]:
    r"""Factorise matrices with singular values of about 1 or more, uniquely.

    Args:
      moved: :math:`X + \xi`, ``rows >= columns``, float32 or float64.

    Returns:
      Q, orthonormal to rounding, and R, upper triangular with a positive diagonal.

    Notes:
      Sequential on CPU; elsewhere a batch with one long step is factorised by
      Householder as a whole, too. No collectives if sharded on batch axes
      (`over_matrices`). Differentiable to any order.

    >>> q, r = qr_of_step(jnp.array([[3.0], [4.0]]))
    >>> round(float(r[0, 0]), 4)
    5.0
    """
    return over_matrices(_factors, moved)


@qr_of_step.defjvp
def _(primals, tangents):
    (moved,), (change,) = primals, tangents
    q, r = qr_of_step(moved)
    # With dM R^-1 = B: Q' dQ is skew, and what is left of Q'B is upper triangular.
    outer = _over(change, r)
    inner = product(flip(q), outer)
    below = jnp.tril(inner, -1)
    rest = inner - below + flip(below)
    return (q, r), (outer - product(q, rest), product(rest, r))


def _factors(moved):
    """Factors of one matrix."""
    gram = product(flip(moved), moved)
    excess = gram - jnp.eye(gram.shape[-1], dtype=gram.dtype)
    sums = jnp.max(jnp.sum(jnp.abs(excess), axis=-1))
    bound = jnp.minimum(sums, jnp.linalg.norm(excess))
    r = flip(jnp.linalg.cholesky(gram))
    return if_needed(
        # NaN compares false, and either way gives NaN.
        bound > _SHORT,
        lambda: _householder(moved),
        (_over(moved, r), r),
    )


def _householder(moved):
    """Factors of one matrix of any condition, R's diagonal made positive."""
    q, r = jnp.linalg.qr(moved)
    diagonal = jnp.diagonal(r, axis1=-2, axis2=-1)
    sign = jnp.where(diagonal < 0, -1.0, 1.0).astype(q.dtype)
    return q * sign[..., None, :], r * sign[..., :, None]


def _over(matrix, r):
    """Divide by a triangular matrix from the right."""
    return flip(solve_triangular(r, flip(matrix), trans="T"))
