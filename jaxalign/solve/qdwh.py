# SPDX-License-Identifier: Apache-2.0
r"""Polar factor by dynamically weighted Halley steps, with Cholesky where it is safe.

A step maps each singular value by :math:`x (a + b x^2) / (1 + c x^2)` with weights that
are best for values in :math:`[l, 1]`: condition 1e7 takes five steps. It needs a lower
bound :math:`l`, estimated here from a Cholesky factor, so that good matrices take two.

References: Nakatsukasa, Bai, Gygi, "Optimizing Halley's iteration for computing the
matrix polar decomposition", 2010; Nakatsukasa, Higham, "Stable and efficient spectral
divide and conquer algorithms", 2013 (the Cholesky variant).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxalign.array_types import Array
from jaxalign.precise import product
from jaxalign.solve.newton_schulz import polish

# Enough for the least lower bound of float64; float32 needs five.
_MOST_STEPS = 8
# Cholesky errs by c times rounding; above this a QR factor takes its place.
_CHOLESKY_WEIGHT = 100.0


def qdwh_factor(
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
      O(rows * columns^2) a step: a Cholesky factor and two triangular solves, or, while
      the condition number is above 20 or so, the QR factor of ``rows + columns`` rows.

    >>> factor, steps = qdwh_factor(jnp.array([[0.0, -1.0], [0.5, 0.0]]))
    >>> bool(jnp.allclose(factor, jnp.array([[0.0, -1.0], [1.0, 0.0]]), atol=1e-5))
    True
    """
    state = (scaled, _lower_bound(scaled), jnp.int32(0))

    def unfinished(state):
        _, lower, steps = state
        # Polishing is cheaper than a step once all values are near one.
        return (lower < 0.9) & (steps < _MOST_STEPS)

    def step(state):
        current, lower, steps = state
        a, b, c = _weights(lower)
        current = jax.lax.cond(
            c > _CHOLESKY_WEIGHT, _step_by_qr, _step_by_cholesky, current, a, b, c
        )
        lower = lower * (a + b * lower**2) / (1.0 + c * lower**2)
        return current, jnp.minimum(lower, jnp.ones_like(lower)), steps + 1

    scaled, _, steps = jax.lax.while_loop(unfinished, step, state)
    factor, more = polish(scaled)
    return factor, steps + more


def _weights(lower):
    """Weights a, b, c that are best for singular values in [lower, 1]."""
    square = lower**2
    d = jnp.cbrt(4.0 * (1.0 - square)) / jnp.cbrt(square) ** 2
    root = jnp.sqrt(1.0 + d)
    a = root + 0.5 * jnp.sqrt(8.0 - 4.0 * d + 8.0 * (2.0 - square) / (square * root))
    b = (a - 1.0) ** 2 / 4.0
    return a, b, a + b - 1.0


def _step_by_cholesky(current, a, b, c):
    """X (b/c + (a - b/c) (I + c X'X)^-1)."""
    k = current.shape[-1]
    shifted = jnp.eye(k, dtype=current.dtype) + c * product(current.T, current)
    factor = jnp.linalg.cholesky(shifted)
    # (k, k) \ (k, rows), twice
    solved = jax.scipy.linalg.cho_solve((factor, True), current.T).T
    return (b / c) * current + (a - b / c) * solved


def _step_by_qr(current, a, b, c):
    """Take the same step from [sqrt(c) X; I] = [Q1; Q2] R, by Q1 Q2'."""
    rows, k = current.shape
    stacked = jnp.concatenate(
        [jnp.sqrt(c) * current, jnp.eye(k, dtype=current.dtype)], axis=0
    )
    # (rows + k, k)
    q, _ = jnp.linalg.qr(stacked)
    change = (a - b / c) / jnp.sqrt(c) * product(q[:rows], q[rows:].T)
    return (b / c) * current + change


def _lower_bound(scaled):
    """Estimate the least singular value, somewhat below, by inverse iteration."""
    k = scaled.shape[-1]
    eps = float(jnp.finfo(scaled.dtype).eps)
    factor = jnp.linalg.cholesky(product(scaled.T, scaled))

    def solve(vector, _):
        solved = jax.scipy.linalg.cho_solve((factor, True), vector)
        size = jnp.linalg.norm(solved)
        return solved / size, size

    start = jnp.cos(jnp.arange(k, dtype=scaled.dtype) ** 2 + 1.0)
    start = start / jnp.linalg.norm(start)
    _, sizes = jax.lax.scan(solve, start, None, length=4)
    # The Gram squares the condition: below sqrt(eps) its factor is rounding, or none.
    estimate = 0.7 / jnp.sqrt(sizes[-1])
    known = estimate > 4.0 * k**0.5 * eps**0.5
    # NaN compares false: no factor, no knowledge.
    estimate = jnp.where(known, estimate, jnp.full_like(estimate, eps))
    return jnp.minimum(estimate, jnp.full_like(estimate, 0.9))
