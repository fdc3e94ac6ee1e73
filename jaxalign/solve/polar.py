# SPDX-License-Identifier: Apache-2.0
"""Polar factor: the nearest matrix with orthonormal columns (or rows).

Reference: Higham, "Computing the polar decomposition - with applications", 1986.
"""

import typing
from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxalign.array_types import Array, ArrayLike

_HIGHEST = jax.lax.Precision.HIGHEST


@typing.no_type_check
@flax.struct.dataclass
class PolarFactor:
    """Polar factor of a batch of matrices.

    Attributes:
      factor: shape ``(*batch, rows, columns)``, orthonormal along its shorter side.
      iterations: steps taken, ``(*batch)``; 0 for a direct method.
      converged: whether `factor` is finite and orthonormal to rounding, ``(*batch)``.
      orthogonality_error: largest entry of ``|Q'Q - I|`` on the shorter side.
    """

    factor: Float[Array, "*batch rows columns"]
    iterations: Int[Array, "*batch"]
    converged: Bool[Array, "*batch"]
    orthogonality_error: Float[Array, "*batch"]


def polar_factor(
    matrix: Float[ArrayLike, "*batch rows columns"], *, method: Literal["svd"] = "svd"
) -> PolarFactor:
    r"""Compute the orthonormal polar factor, batched over leading axes.

    For ``matrix`` :math:`C = U \Sigma V^\top` (thin) it is :math:`Q = U V^\top`, which
    maximises :math:`\langle Q, C \rangle` over matrices with orthonormal columns (rows,
    if there are fewer rows than columns).

    Args:
      matrix: :math:`C`, shape ``(..., rows, columns)``, floating.
      method: static; ``"svd"`` is exact at any rank.

    Returns:
      The factor with its measured orthogonality; `matrix` in half precision is
      factorised in float32.

    Raises:
      ValueError: if `matrix` has fewer than two axes, or `method` is unknown.

    Notes:
      Unique only if `matrix` has full rank; the null part is arbitrary otherwise, and
      still orthonormal. Cost O(rows * columns * min(rows, columns)) per entry.

    >>> polar_factor(2.0 * jnp.eye(2)).factor.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if matrix.ndim < 2:
        raise ValueError(
            "`polar_factor(matrix=...)`: expected shape (..., rows, columns), got "
            f"{matrix.shape}; pass a matrix such as `moments.cross_covariance`."
        )
    if method != "svd":
        raise ValueError(
            f"`polar_factor(method={method!r})`: expected 'svd'; leave it out."
        )
    u, _, vt = thin_svd(matrix)
    # (..., rows, k) @ (..., k, columns)
    factor = jnp.matmul(u, vt, precision=_HIGHEST)
    error = orthogonality_error(factor)
    batch = factor.shape[:-2]
    bound = 4.0 * max(factor.shape[-2:]) * float(jnp.finfo(factor.dtype).eps)
    return PolarFactor(
        factor=factor,
        iterations=jnp.zeros(batch, jnp.int32),
        # NaN compares false, so a non-finite factor is not converged.
        converged=error <= bound,
        orthogonality_error=error,
    )


def thin_svd(
    matrix: Float[ArrayLike, "*batch rows columns"],
) -> tuple[
    Float[Array, "*batch rows k"],
    Float[Array, "*batch k"],
    Float[Array, "*batch k columns"],
]:
    """Factorise by thin SVD, in float32 at least."""
    array = jnp.asarray(matrix)
    array = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    u, s, vt = jnp.linalg.svd(array, full_matrices=False)
    return u, s, vt


def orthogonality_error(
    factor: Float[ArrayLike, "*batch rows columns"],
) -> Float[Array, "*batch"]:
    """Measure the largest entry of ``|Q'Q - I|`` along the shorter side."""
    array = jnp.asarray(factor)
    if array.shape[-2] < array.shape[-1]:
        array = jnp.swapaxes(array, -1, -2)
    # (..., columns, rows) @ (..., rows, columns)
    gram = jnp.matmul(jnp.swapaxes(array, -1, -2), array, precision=_HIGHEST)
    identity = jnp.broadcast_to(jnp.eye(gram.shape[-1], dtype=gram.dtype), gram.shape)
    return jnp.max(jnp.abs(gram - identity), axis=(-2, -1))
