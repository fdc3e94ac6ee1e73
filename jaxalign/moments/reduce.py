# SPDX-License-Identifier: Apache-2.0
"""From groups to any subsets of them: sweeps and bootstraps without another pass."""

import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Shaped

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.moments.statistics import MAX_ROWS, Moments, check_moments, expand_to
from jaxalign.precise import product


def reduce_groups(
    moments: Moments, weights: Shaped[ArrayLike, "*batch g"] | None = None
) -> Moments:
    r"""Merge groups of rows into weighted subsets of them, many at once.

    With weights :math:`w_{sg}` (``weights``) of subset s and groups of counts
    :math:`n_g`, means :math:`m_g` and centred sums :math:`C_g`, a subset has
    :math:`n_s = \sum_g w_{sg} n_g`, :math:`m_s = \sum_g w_{sg} n_g m_g / n_s` and
    :math:`C_s = \sum_g w_{sg} (C_g + n_g (m_g - m_s)(m_g - m_s)^\top)`.

    Args:
      moments: with one leading axis of G groups, or several, counted as one.
      weights: shape ``(..., G)``, not negative: booleans choose subsets, whole numbers
        are bootstrap draws, anything else is a weight of all rows of a group. Default:
        all groups together.

    Returns:
      Moments with the leading axes ``(...)`` of `weights`. `rows` counts each row of a
      group that takes part once, since a repeated row adds no rank.

    Raises:
      ValueError: if `moments` has no groups, or `weights` another number of them or a
        negative number.

    Notes:
      No pass over rows. Cost O(S G d_source d_target) by matrix products, and memory
      S x d_source x d_target: reduce a thousand subsets in parts, as by `jax.lax.map`.
      No collectives of its own.

    References:
      Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing
      sample variances", 1979.

    >>> import jaxalign as ja
    >>> rows, classes = jnp.eye(4), jnp.array([0, 0, 1, 1])
    >>> empty = ja.moments.init_moments(4, 4, groups=2)
    >>> grouped = ja.moments.update_moments(empty, rows, rows, group=classes)
    >>> subsets = ja.moments.reduce_groups(grouped, jnp.array([[1, 0], [1, 1]]))
    >>> subsets.count.tolist()
    [2.0, 4.0]
    """
    check_moments("reduce_groups", moments)
    if not moments.groups:
        expected = "moments with groups"
        remedy = "make them by `init_moments(..., groups=G)`"
        raise ArgumentError("reduce_groups(moments=...)", expected, "none", remedy)
    total = moments.count.size
    if weights is None:
        weights = jnp.ones((total,), moments.count.dtype)
    weights = jnp.asarray(weights)
    if weights.ndim < 1 or weights.shape[-1] != total:
        remedy = "give one weight for each group"
        raise ArgumentError(
            "reduce_groups(weights=...)", f"shape (..., {total})", weights.shape, remedy
        )
    if isinstance(weights, jax.Array) and not isinstance(weights, jax.core.Tracer):
        lowest = float(jnp.min(weights)) if weights.size else 0.0
        if lowest < 0:
            expected = "numbers of at least 0"
            got = f"{lowest:.3g}"
            remedy = "take rows out by `subtract_moments`"
            raise ArgumentError("reduce_groups(weights=...)", expected, got, remedy)
    return _reduce(moments, weights)


@jax.jit
def _reduce(moments, weights):
    """Merge groups; one that is not finite spoils the subsets that hold it alone."""
    energies = moments.source_energy + moments.target_energy
    finite = jnp.isfinite(energies + moments.count)

    def careful(moments, weights):
        # 0 times NaN is NaN: what is left out must be taken out.
        cleaned = jax.tree.map(
            lambda leaf: jnp.where(expand_to(finite, leaf), leaf, jnp.zeros_like(leaf)),
            moments,
        )
        merged = _merge_groups(cleaned, weights)
        spoiled = (~finite).reshape(-1).astype(jnp.float32)
        taken = weights.astype(bool).astype(jnp.float32)
        held = jnp.matmul(taken, spoiled) > 0

        def spoil(leaf):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf
            return jnp.where(expand_to(held, leaf), jnp.full_like(leaf, jnp.nan), leaf)

        return jax.tree.map(spoil, merged)

    return jax.lax.cond(jnp.all(finite), _merge_groups, careful, moments, weights)


def _merge_groups(moments, weights):
    """Sum groups about each subset's own mean, so that no large mean cancels."""
    dtype = moments.count.dtype
    grams = moments.source_gram is not None
    leading = len(moments.groups)
    batch = weights.shape[:-1]
    # (S, G) and (G, ...)
    weights = weights.astype(dtype).reshape(-1, weights.shape[-1])
    flat = jax.tree.map(lambda x: x.reshape((-1, *x.shape[leading:])), moments)
    own = weights * flat.count[None, :]
    count = jnp.sum(own, axis=-1)
    safe = jnp.where(count == 0, jnp.ones_like(count), count)[:, None]
    source_mean, source = _about_own_mean(flat.source_mean, own / safe)
    target_mean, target = _about_own_mean(flat.target_mean, own / safe)

    def outer(within, left, right):
        # (S, G) @ (G, rows * columns)
        sums = product(weights, within.reshape(within.shape[0], -1))
        sums = sums.reshape(-1, *within.shape[1:])
        # (S, rows, G) @ (S, G, columns)
        weighted = jnp.swapaxes(own[:, :, None] * left, -1, -2)
        between = product(weighted, right)
        return (sums + between).reshape(*batch, *within.shape[1:])

    def energy(within, means):
        between = jnp.sum(own * jnp.sum(jnp.square(means), axis=-1), axis=-1)
        sums = product(weights, within)
        return (sums + between).reshape(batch)

    return Moments(
        count=count.reshape(batch),
        rows=_count_rows(flat.rows, weights != 0).reshape(batch),
        source_mean=source_mean.reshape(*batch, -1),
        target_mean=target_mean.reshape(*batch, -1),
        cross_covariance=outer(flat.cross_covariance, target, source),
        source_energy=energy(flat.source_energy, source),
        target_energy=energy(flat.target_energy, target),
        source_gram=outer(flat.source_gram, source, source) if grams else None,
        target_gram=outer(flat.target_gram, target, target) if grams else None,
    )


def _about_own_mean(means, shares):
    """Mean of each subset, (S, d), and the groups' means about it, (S, G, d)."""
    # (S, G) @ (G, d)
    mean = product(shares, means)
    about = means[None, :, :] - mean[:, None, :]
    # What rounding has left: (S, 1, G) @ (S, G, d)
    rest = product(shares[:, None, :], about)
    return mean + rest[:, 0, :], about - rest


def _count_rows(rows, taken):
    """Sum the rows of the groups that are taken, staying at the largest number."""
    chosen = jnp.where(taken, rows[None, :], jnp.zeros_like(rows)[None, :])
    # The float sum tells whether the whole numbers have wrapped around.
    full = jnp.sum(chosen.astype(jnp.float32), axis=-1) >= float(MAX_ROWS)
    total = jnp.sum(chosen, axis=-1, dtype=jnp.int32)
    return jnp.where(full, jnp.full_like(total, MAX_ROWS), total)
