# SPDX-License-Identifier: Apache-2.0
r"""Polar factor by matrix products alone: minimax quintics, then Newton-Schulz.

For accelerators, whose matrix units leave factorisations far behind. Each step maps
every singular value :math:`x` of the iterate by an odd polynomial and keeps the
singular vectors: a fixed schedule brings them near one (`minimax_schedule`), and the
quintic Newton-Schulz step :math:`x (15 - 10 x^2 + 3 x^4) / 8`, of third order, polishes
to rounding.

References: Amsel et al., "The Polar Express", 2025, arXiv 2505.16932; Kovarik, "Some
iterative methods for improving orthonormality", 1970.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxalign.array_types import Array
from jaxalign.precise import product
from jaxalign.solve.minimax import minimax_schedule


def newton_schulz_factor(
    scaled: Float[Array, "rows columns"],
) -> tuple[Float[Array, "rows columns"], Int[Array, ""]]:
    """Compute the polar factor of one tall or square matrix.

    Args:
      scaled: shape ``(rows, columns)``, ``rows >= columns``, float32 or float64, with
        singular values up to 1: see `scale_to_unit`.

    Returns:
      The factor and the number of steps. Null directions of `scaled` may stay null:
      measure the result, as `polar_factor` does.

    Notes:
      Three products a step, O(rows * columns^2) each; ten steps for a condition number
      below 1e3 or so, one more for each factor of two beyond.

    >>> factor, steps = newton_schulz_factor(scale_to_unit(3.0 * jnp.eye(2)))
    >>> bool(jnp.allclose(factor, jnp.eye(2), atol=1e-6))
    True
    """
    # What a schedule for less would cost all, polishing costs only the worst.
    lower = 1e-4 if scaled.dtype == jnp.float32 else 1e-6
    schedule = minimax_schedule(lower)
    for a, b, c in schedule:
        gram = _gram(scaled)
        # (k, k) @ (k, k), then (rows, k) @ (k, k)
        inner = b * gram + c * product(gram, gram)
        scaled = a * scaled + product(scaled, inner)
    factor, steps = polish(scaled)
    return factor, steps + len(schedule)


def scale_to_unit(
    matrix: Float[Array, "rows columns"],
) -> Float[Array, "rows columns"]:
    r"""Scale a matrix so that its largest singular value is in [1 / k^(1/8), 1].

    By :math:`(\sum_i \sigma_i^8)^{1/8}`, the root of the Frobenius norm of the squared
    Gram matrix: far nearer than the Frobenius norm, for two products. Zero stays zero.
    """
    largest = jnp.max(jnp.abs(matrix))
    largest = jnp.where(largest > 0, largest, jnp.ones_like(largest))
    safe = matrix / largest
    gram = _gram(safe)
    # The Gram's entries are at most `rows`: its square is far from overflow.
    norm = jnp.sqrt(jnp.sqrt(jnp.linalg.norm(product(gram, gram))))
    # Rounding must not leave a value above one.
    norm = norm * (1.0 + 16.0 * float(jnp.finfo(matrix.dtype).eps))
    return safe / jnp.where(norm > 0, norm, jnp.ones_like(norm))


def polish(
    matrix: Float[Array, "rows columns"],
) -> tuple[Float[Array, "rows columns"], Int[Array, ""]]:
    """Take Newton-Schulz steps until the columns are orthonormal to rounding.

    Args:
      matrix: with singular values in (0, 1.5); zeros stay.

    Returns:
      The factor and the steps taken, up to a limit that carries any value above
      rounding to one.
    """
    eps = float(jnp.finfo(matrix.dtype).eps)
    # Third order: a step from an error of cbrt(eps) ends at rounding.
    enough = 0.5 * eps ** (1.0 / 3.0)
    # A value grows by 15/8 a step.
    limit = math.ceil(-math.log(eps) / math.log(15.0 / 8.0)) + 4
    identity = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)

    def step(state):
        current, _, steps = state
        missing = identity - _gram(current)
        # As an addition: what is right already is not rounded again.
        change = 0.5 * missing + 0.375 * product(missing, missing)
        current = current + product(current, change)
        return current, jnp.linalg.norm(missing), steps + 1

    def unfinished(state):
        _, error, steps = state
        # NaN compares false and ends the loop.
        return (error > enough) & (steps < limit)

    start = (matrix, jnp.full((), 2.0 * enough, matrix.dtype), jnp.int32(0))
    factor, _, steps = jax.lax.while_loop(unfinished, step, start)
    return factor, steps


def _gram(matrix):
    """Inner products of the columns."""
    return product(matrix.T, matrix)
