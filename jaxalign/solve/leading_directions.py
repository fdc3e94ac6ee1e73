# SPDX-License-Identifier: Apache-2.0
r"""Leading singular vectors of a matrix, and the derivative of the subspaces they span.

Of :math:`C = U \Sigma V^\top` the leading r pairs of singular vectors are kept. Where
:math:`\sigma_r > \sigma_{r+1}`, the subspaces and the partial isometry
:math:`U_r V_r^\top` are smooth functions of C, even if other singular values are tied.
Single vectors are not, since any basis will do. The derivative here takes the basis in
which vectors turn into each other no more than :math:`U_r V_r^\top` asks for.

Reference: Stewart and Sun, "Matrix Perturbation Theory", 1990, chapter V.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxalign.array_types import Array
from jaxalign.precise import product
from jaxalign.solve.polar import thin_svd


@jax.custom_jvp
def leading_directions(
    matrix: Float[Array, "*batch rows columns"], rank: Int[Array, "*batch"]
) -> tuple[Float[Array, "*batch rows k"], Float[Array, "*batch columns k"]]:
    r"""Compute the leading singular vectors, with zeros in the columns beyond `rank`.

    Args:
      matrix: C, shape ``(*batch, rows, columns)``; k is the smaller of its sides.
      rank: r, how many to keep, ``(*batch)``.

    Returns:
      :math:`U_r` and :math:`V_r`.

    Notes:
      The derivative holds `rank` fixed. It is right for what does not depend on the
      choice of a basis, such as :math:`U_r V_r^\top` and projections on the subspaces,
      and NaN where they have none: the last singular value that is kept is, to
      rounding, the first that is cut, or two that are kept are 0. Second derivatives
      are NaN where some are cut. Where none is, they lack a term: take those of the
      polar factor. Cost O(d^3) per entry; no collectives if sharded on the batch axes.
    """
    u, _, v = _factors(matrix, rank)
    kept = _kept(u, rank)[..., None, :].astype(u.dtype)
    return u * kept, v * kept


@leading_directions.defjvp
def _(primals, tangents):
    (matrix, rank), (tangent, _) = primals, tangents
    u, values, v = _factors(matrix, rank)
    kept = _kept(u, rank)
    tangent = tangent.astype(u.dtype)
    # u_i' dC v_j, i and j by row and column
    inner = product(product(_flip(u), tangent), v)
    row, column = values[..., :, None], values[..., None, :]
    inside = kept[..., :, None] & kept[..., None, :]
    # A vector that is kept, by column, turns to one that is cut, by row.
    outward = ~kept[..., :, None] & kept[..., None, :]
    eps = float(jnp.finfo(u.dtype).eps)
    cutoff = max(matrix.shape[-2:]) * eps * values[..., :1, None]
    gap = _inverse(column - row, outward, cutoff)
    total = _inverse(column + row, inside | outward, cutoff)
    turn = jnp.where(inside, 0.5 * total, 0.0) * (inner - _flip(inner))
    out = gap * total
    of_u = out * (column * inner + row * _flip(inner)) + turn
    of_v = out * (column * _flip(inner) + row * inner) - turn
    each = _inverse(column, kept[..., None, :], cutoff)
    left, right = product(tangent, v), product(_flip(tangent), u)
    du = product(u, of_u) + (left - product(u, inner)) * each
    dv = product(v, of_v) + (right - product(v, _flip(inner))) * each
    mask = kept[..., None, :].astype(u.dtype)
    return (u * mask, v * mask), (du, dv)


@jax.custom_jvp
def _factors(matrix, rank):
    """U, the singular values and V."""
    del rank
    u, values, vt = thin_svd(matrix)
    return u, values, _flip(vt)


@_factors.defjvp
def _(primals, tangents):
    """Second derivatives come here: NaN, but for a full rank, which may be masked."""
    (matrix, rank), (tangent, _) = primals, tangents
    found = _factors(matrix, rank)
    cut = rank < min(matrix.shape[-2:])
    slope = jnp.where(cut, jnp.nan, 0.0) * jnp.sum(tangent, axis=(-2, -1))

    def spread(x):
        shape = cut.shape + (1,) * (x.ndim - cut.ndim)
        return jnp.broadcast_to(slope.reshape(shape), x.shape).astype(x.dtype)

    u, values, v = map(spread, found)
    return found, (u, values, v)


def _kept(u, rank):
    """Tell which of the k columns are among the leading ones, (*batch, k)."""
    places = jax.lax.broadcasted_iota(rank.dtype, (*rank.shape, u.shape[-1]), rank.ndim)
    return places < rank[..., None]


def _inverse(divisor, wanted, cutoff):
    """1 / divisor where wanted, NaN if it is rounding there; 0 elsewhere."""
    good = divisor > cutoff
    inverse = jnp.where(good, 1.0 / jnp.where(good, divisor, 1.0), jnp.nan)
    return jnp.where(wanted, inverse, 0.0)


def _flip(matrix):
    """Transpose of the last two axes."""
    return jnp.swapaxes(matrix, -1, -2)
