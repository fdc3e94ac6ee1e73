# SPDX-License-Identifier: Apache-2.0
"""Moments of one block of rows: the product under every pass."""

import jax.numpy as jnp

from jaxalign.moments.statistics import Moments
from jaxalign.precise import product

# Rows of equal weight whose mean stands for that of all: it is off by a sixth of their
# spread.
_FEW = 32


def moments_of_block(
    source, target, weights=None, *, kept=None, dtype, grams: bool
) -> Moments:
    r"""Moments of rows that are all in memory, about their own means.

    Sums are taken about a point :math:`p` and brought to the mean of all,
    :math:`m = p + r`: the products lose :math:`n r_y r_x^\top`. The point must be so
    near the mean that nothing cancels. Rows of equal weight have it for free, in the
    mean of a few of them; with weights it is the weighted mean of all, up to rounding,
    since the few may weigh nothing.

    Args:
      source: ``(k, d_source)``, any floating dtype.
      target: ``(k, d_target)``.
      weights: ``(k,)`` or None; rows of weight 0 may hold anything.
      kept: ``(k,)`` booleans, rows that count; None: those whose weight is not 0.
      dtype: to accumulate in.
      grams: whether to keep the Gram matrices.
    """
    source, target = jnp.asarray(source, dtype), jnp.asarray(target, dtype)
    if weights is not None:
        weights = jnp.asarray(weights, dtype)
        kept = weights != 0 if kept is None else kept & (weights != 0)
    if kept is None:
        rows = jnp.asarray(source.shape[0], jnp.int32)
    else:
        rows = jnp.sum(kept, dtype=jnp.int32)
    if weights is None or kept is None:
        count = rows.astype(dtype)
    else:
        weights = jnp.where(kept, weights, jnp.zeros_like(weights))
        count = jnp.sum(weights)
    safe = jnp.where(count == 0, jnp.ones_like(count), count)

    def about_a_point(side):
        point = _near_mean(side, kept, None if weights is None else weights / safe)
        moved = side - point[None, :]
        if kept is not None:
            moved = jnp.where(kept[:, None], moved, jnp.zeros_like(moved))
        if weights is None:
            rest = jnp.sum(moved, axis=0) / safe
        else:
            rest = product(weights, moved) / safe
        return point + rest, moved, rest

    source_mean, source_p, source_rest = about_a_point(source)
    target_mean, target_p, target_rest = about_a_point(target)

    def centred_product(left, right, left_rest, right_rest):
        weighted = left if weights is None else weights[:, None] * left
        # (d_left, k) @ (k, d_right)
        sums = product(weighted.T, right)
        return sums - count * left_rest[:, None] * right_rest[None, :]

    def gram(moved, rest):
        return centred_product(moved, moved, rest, rest) if grams else None

    def energy(moved, rest):
        squares = jnp.sum(jnp.square(moved), axis=-1)
        total = jnp.sum(squares if weights is None else weights * squares)
        return total - count * jnp.sum(jnp.square(rest))

    return Moments(
        count=count,
        rows=rows,
        source_mean=source_mean,
        target_mean=target_mean,
        cross_covariance=centred_product(target_p, source_p, target_rest, source_rest),
        source_energy=energy(source_p, source_rest),
        target_energy=energy(target_p, target_rest),
        source_gram=gram(source_p, source_rest),
        target_gram=gram(target_p, target_rest),
    )


def _near_mean(side, kept, shares):
    """Mean of the first rows that count, or, given the rows' shares, of all rows."""
    if not side.shape[0]:
        return jnp.zeros_like(side, shape=side.shape[1:])
    if shares is not None:
        counted = jnp.where(kept[:, None], side, jnp.zeros_like(side))
        # (k,) @ (k, d)
        return product(shares, counted)
    few = side[:_FEW]
    if kept is None:
        return jnp.mean(few, axis=0)
    head = kept[:_FEW]
    number = jnp.sum(head, dtype=side.dtype)
    few = jnp.where(head[:, None], few, jnp.zeros_like(few))
    mean = jnp.sum(few, axis=0) / jnp.maximum(number, jnp.ones_like(number))
    first = jnp.argmax(kept)
    alone = jnp.where(kept[first], side[first], jnp.zeros_like(side[0]))
    return jnp.where(number > 0, mean, alone)
