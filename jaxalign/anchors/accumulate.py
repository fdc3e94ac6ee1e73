# SPDX-License-Identifier: Apache-2.0
"""Moments of rows that are at hand: batch by batch, one compilation for all batches."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.anchors.inspection import as_float
from jaxalign.array_types import ArrayLike
from jaxalign.buckets import bucket_size, pad_to_bucket
from jaxalign.moments import Moments, init_moments, update_moments
from jaxalign.sharding import pad_rows

SMALLEST_BATCH = 256


def moments_of(
    source,
    target,
    weights=None,
    *,
    grams: bool,
    batch_size: int,
    group=None,
    groups: int | None = None,
) -> Moments:
    """Moments of one modality, batch by batch, one compilation for all batches.

    Args:
      source: ``(n, d_source)``; JAX rows stay where they are.
      target: ``(n, d_target)``, NumPy or JAX as `source` is.
      weights: ``(n,)`` or None.
      grams: whether to accumulate Grams.
      batch_size: rows a batch.
      group: ``(n,)`` numbers below `groups`, or None.
      groups: how many, or None.
    """
    moments = init_moments(source.shape[1], target.shape[1], groups=groups, grams=grams)
    for start, left, right, size in _batches(source, target, batch_size):
        rows = slice(start, start + size)
        mask = np.arange(size) < source.shape[0] - start
        if weights is not None:
            mask, _ = pad_rows(as_float(weights[rows]), size)
        of = None if group is None else pad_rows(group[rows], size)[0]
        moments = update_moments(
            moments, left, right, weights=mask, group=of, donate=True
        )
    return moments


def unpaired_moments(
    source: tuple[ArrayLike, np.ndarray],
    target: tuple[ArrayLike, np.ndarray],
    *,
    grams: bool,
    batch_size: int,
) -> Moments:
    """Moments of two sides that do not pair: no cross-covariance, a common count.

    The target's sums are brought to the source's number of rows, so that energies of
    the two sides compare.

    Args:
      source: rows ``(n, d_source)`` and a mask ``(n,)``.
      target: rows ``(m, d_target)`` and a mask ``(m,)``.
      grams: whether to accumulate Grams.
      batch_size: rows a batch.
    """
    left, right = (
        moments_of(
            rows,
            np.zeros_like(rows, shape=(len(mask), 1)),
            mask,
            **{"grams": grams, "batch_size": batch_size},
        )
        for rows, mask in (source, target)
    )
    share = left.count / right.count
    return dataclasses.replace(
        left,
        rows=jnp.minimum(left.rows, right.rows),
        target_mean=right.source_mean,
        cross_covariance=jnp.zeros(
            (right.d_source, left.d_source), left.cross_covariance.dtype
        ),
        target_energy=share * right.source_energy,
        target_gram=(None if right.source_gram is None else share * right.source_gram),
    )


def _batches(source, target, batch_size) -> Iterator[tuple]:
    """Cut rows into padded batches; all small sets share one size and compilation."""
    n = source.shape[0]
    if isinstance(source, jax.Array) and isinstance(target, jax.Array):
        # In memory as it is: one batch, which `update_moments` cuts into blocks.
        yield 0, pad_to_bucket(source), pad_to_bucket(target), bucket_size(n)
        return
    size = min(batch_size, max(SMALLEST_BATCH, 1 << (n - 1).bit_length()))
    for start in range(0, n, size):
        rows = slice(start, start + size)
        sides = (pad_rows(as_float(side[rows]), size)[0] for side in (source, target))
        yield start, *sides, size
