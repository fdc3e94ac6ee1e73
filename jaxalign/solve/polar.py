# SPDX-License-Identifier: Apache-2.0
"""Polar factor: the nearest matrix with orthonormal columns (or rows).

Three ways to one answer: the SVD, exact at any rank; QDWH, a few Cholesky factors; and
Newton-Schulz, matrix products alone. Reference: Higham, "Computing the polar
decomposition - with applications", 1986.
"""

import functools
import typing
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError, check_option
from jaxalign.float_rows import float_array, wide_dtype
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass
from jaxalign.solve.newton_schulz import newton_schulz_factor, scale_to_unit
from jaxalign.solve.over_matrices import over_matrices
from jaxalign.solve.polar_gradient import polar_tangent
from jaxalign.solve.qdwh import qdwh_factor

PolarMethod = Literal["svd", "qdwh", "newton_schulz"]
POLAR_METHODS: tuple[str, ...] = typing.get_args(PolarMethod)


@pytree_dataclass
class PolarFactor:
    """Polar factor of a batch of matrices.

    Attributes:
      factor: shape ``(*batch, rows, columns)``, orthonormal along its shorter side.
      iterations: steps taken, ``(*batch)``; 0 for a direct method.
      converged: whether `factor` is finite and orthonormal to rounding, and, for the
        iterative methods, `matrix` has full rank, ``(*batch)``.
      orthogonality_error: largest entry of ``|Q'Q - I|`` on the shorter side, measured.
    """

    factor: Float[Array, "*batch rows columns"]
    iterations: Int[Array, "*batch"]
    converged: Bool[Array, "*batch"]
    orthogonality_error: Float[Array, "*batch"]


def polar_factor(
    matrix: Float[ArrayLike, "*batch rows columns"], *, method: PolarMethod = "svd"
) -> PolarFactor:
    r"""Compute the orthonormal polar factor, batched over leading axes.

    For ``matrix`` :math:`C = U \Sigma V^\top` (thin) it is :math:`Q = U V^\top`, which
    maximises :math:`\langle Q, C \rangle` over matrices with orthonormal columns (rows,
    if there are fewer rows than columns).

    Args:
      matrix: :math:`C`, shape ``(..., rows, columns)``, floating.
      method: static; ``"svd"`` is exact at any rank, ``"qdwh"`` takes a few Cholesky or
        QR factors, ``"newton_schulz"`` consists of matrix products.

    Returns:
      The factor with its measured orthogonality; `matrix` in half precision is
      factorised in float32.

    Raises:
      ValueError: if `matrix` is no floating array of two axes or more, with no empty
        side, or `method` is unknown.

    Notes:
      Unique only if `matrix` has full rank. Otherwise the null part is arbitrary: still
      orthonormal by SVD, and nothing to rely on by the others, which then say that they
      have not converged. Methods differ by a few eps times the condition number.
      Differentiable at full rank, ties included (`polar_tangent`). Cost
      O(rows * columns * min(rows, columns)) per entry. No collectives if sharded on
      the batch axes.

    References:
      Higham, "Computing the polar decomposition - with applications", 1986.
      Nakatsukasa, Bai, Gygi, "Optimizing Halley's iteration for computing the matrix
      polar decomposition", 2010 (qdwh).
      Amsel, Persson, Musco, Gower, "The Polar Express", 2025, arXiv 2505.16932.

    >>> bool(jnp.allclose(polar_factor(2.0 * jnp.eye(2)).factor, jnp.eye(2)))
    True
    """
    shape = "(..., rows, columns)"
    array = float_array("polar_factor", "matrix", matrix, axes=2, expected=shape)
    if 0 in array.shape[-2:]:
        raise ArgumentError(
            "polar_factor(matrix=...)",
            f"shape {shape} with no empty side",
            array.shape,
            "pass a matrix such as `moments.cross_covariance`",
        )
    check_method("polar_factor", method)
    return _polar_factor(jnp.asarray(array), method=method)


@functools.partial(jax.jit, static_argnames="method")
def _polar_factor(matrix, *, method):
    """Factorise, and measure the result."""
    array = matrix.astype(wide_dtype(matrix.dtype))
    factor, iterations, regular = _differentiable_factor(array, method)
    error = orthogonality_error(jax.lax.stop_gradient(factor))
    return PolarFactor(
        factor=factor,
        iterations=iterations.astype(jnp.int32),
        # NaN compares false, so a non-finite factor is not converged.
        converged=(error <= orthogonality_bound(factor)) & (regular > 0),
        orthogonality_error=error,
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _differentiable_factor(matrix, method):
    """Factor, steps and regularity; the latter two as floats, that have derivatives."""
    return over_matrices(functools.partial(factor_one, method=method), matrix)


@_differentiable_factor.defjvp
def _(method, primals, tangents):
    (matrix,), (tangent,) = primals, tangents
    factor, iterations, regular = _differentiable_factor(matrix, method)
    moved, _ = polar_tangent(factor, matrix, tangent)
    still = jnp.zeros_like(iterations), jnp.zeros_like(regular)
    return (factor, iterations, regular), (moved, *still)


def factor_one(
    matrix: Float[Array, "rows columns"], *, method: PolarMethod
) -> tuple[Float[Array, "rows columns"], Float[Array, ""], Float[Array, ""]]:
    """Compute the polar factor of one matrix, not differentiable.

    Args:
      matrix: shape ``(rows, columns)``, float32 or float64.
      method: static.

    Returns:
      The factor, the steps taken, and 1 if `matrix` has full rank as far as an
      iterative method can tell, else 0; always 1 by SVD, whose factor is orthonormal
      whatever the rank.
    """
    if method == "svd":
        u, _, vt = jnp.linalg.svd(matrix, full_matrices=False)
        zero, one = jnp.zeros((), matrix.dtype), jnp.ones((), matrix.dtype)
        # (rows, k) @ (k, columns)
        return product(u, vt), zero, one
    if matrix.shape[0] < matrix.shape[1]:
        factor, steps, regular = factor_one(matrix.T, method=method)
        return factor.T, steps, regular
    iterate = qdwh_factor if method == "qdwh" else newton_schulz_factor
    scaled = scale_to_unit(matrix)
    factor, steps = iterate(scaled)
    regular = _is_regular(factor, scaled).astype(matrix.dtype)
    return factor, steps.astype(matrix.dtype), regular


def thin_svd(
    matrix: Float[ArrayLike, "*batch rows columns"],
) -> tuple[
    Float[Array, "*batch rows k"],
    Float[Array, "*batch k"],
    Float[Array, "*batch k columns"],
]:
    """Factorise by thin SVD, in float32 at least; not differentiable."""
    array = jnp.asarray(matrix)
    array = array.astype(wide_dtype(array.dtype))
    array = jax.lax.stop_gradient(array)
    return over_matrices(
        lambda one: tuple(jnp.linalg.svd(one, full_matrices=False)), array
    )


def orthogonality_error(
    factor: Float[ArrayLike, "*batch rows columns"],
) -> Float[Array, "*batch"]:
    """Measure the largest entry of ``|Q'Q - I|`` along the shorter side."""
    array = jnp.asarray(factor)
    if array.shape[-2] < array.shape[-1]:
        array = jnp.swapaxes(array, -1, -2)
    # (..., columns, rows) @ (..., rows, columns)
    gram = product(jnp.swapaxes(array, -1, -2), array)
    identity = jnp.broadcast_to(jnp.eye(gram.shape[-1], dtype=gram.dtype), gram.shape)
    return jnp.max(jnp.abs(gram - identity), axis=(-2, -1))


def orthogonality_bound(factor: Float[Array, "*batch rows columns"]) -> float:
    """Orthogonality error that is still rounding, for a factor of this shape."""
    return 4.0 * max(factor.shape[-2:]) * float(jnp.finfo(factor.dtype).eps)


def check_method(call: str, method: str) -> None:
    """Raise if `method` is unknown."""
    check_option(
        call,
        "method",
        method,
        POLAR_METHODS,
        remedy="leave it out for 'svd', which is exact at any rank",
    )


def _is_regular(factor, scaled):
    """Whether all singular values are above rounding, by a Cholesky factor.

    The iterations may lift a null direction that rounding has filled to a column that
    is orthonormal and arbitrary; Q'C then is positive only up to rounding.
    """
    stretch = product(factor.T, scaled)
    cutoff = max(scaled.shape) * float(jnp.finfo(scaled.dtype).eps)
    identity = jnp.eye(stretch.shape[-1], dtype=stretch.dtype)
    shifted = 0.5 * (stretch + stretch.T) - cutoff * identity
    return jnp.all(jnp.isfinite(jnp.diagonal(jnp.linalg.cholesky(shifted))))
