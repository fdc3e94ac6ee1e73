# SPDX-License-Identifier: Apache-2.0
"""Moments of one block of rows: the product under every pass."""

import jax
import jax.numpy as jnp

from jaxalign.moments.statistics import Moments

_HIGHEST = jax.lax.Precision.HIGHEST


def moments_of_block(source, target, weights, *, dtype, grams: bool) -> Moments:
    """Moments of rows that are all in memory, about their own means.

    Args:
      source: ``(k, d_source)``, any floating dtype.
      target: ``(k, d_target)``.
      weights: ``(k,)`` or None; rows of weight 0 may hold anything.
      dtype: to accumulate in.
      grams: whether to keep the Gram matrices.
    """
    source, target = jnp.asarray(source, dtype), jnp.asarray(target, dtype)
    if weights is None:
        count = jnp.asarray(source.shape[0], dtype)
        rows = jnp.asarray(source.shape[0], jnp.int32)
    else:
        weights = jnp.asarray(weights, dtype)
        kept = weights != 0
        source = jnp.where(kept[:, None], source, jnp.zeros_like(source))
        target = jnp.where(kept[:, None], target, jnp.zeros_like(target))
        count, rows = jnp.sum(weights), jnp.sum(kept, dtype=jnp.int32)
    safe = jnp.where(count == 0, jnp.ones_like(count), count)

    def about_mean(side):
        mean = _weighted_sum(side, weights) / safe
        centred = side - mean[None, :]
        if weights is not None:
            centred = jnp.where(kept[:, None], centred, jnp.zeros_like(centred))
        # What rounding left of the mean, as large as the spread of a tight cone.
        rest = _weighted_sum(centred, weights) / safe
        return mean + rest, centred, rest

    source_mean, source_c, source_rest = about_mean(source)
    target_mean, target_c, target_rest = about_mean(target)

    def product(left, right, left_rest, right_rest):
        weighted = left if weights is None else weights[:, None] * left
        # (d_left, k) @ (k, d_right)
        sums = jnp.matmul(weighted.T, right, precision=_HIGHEST)
        return sums - count * left_rest[:, None] * right_rest[None, :]

    def energy(centred, rest):
        squares = jnp.sum(jnp.square(centred), axis=-1)
        total = jnp.sum(squares if weights is None else weights * squares)
        return total - count * jnp.sum(jnp.square(rest))

    return Moments(
        count=count,
        rows=rows,
        source_mean=source_mean,
        target_mean=target_mean,
        cross_covariance=product(target_c, source_c, target_rest, source_rest),
        source_energy=energy(source_c, source_rest),
        target_energy=energy(target_c, target_rest),
        source_gram=product(source_c, source_c, source_rest, source_rest)
        if grams
        else None,
        target_gram=product(target_c, target_c, target_rest, target_rest)
        if grams
        else None,
    )


def _weighted_sum(rows, weights):
    """Sum rows by their weights, (d,)."""
    if weights is None:
        return jnp.sum(rows, axis=0)
    return jnp.matmul(weights, rows, precision=_HIGHEST)
