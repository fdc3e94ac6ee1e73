# SPDX-License-Identifier: Apache-2.0
"""Moments of a user's anchors, by modality, batch by batch, or of all at once."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import Modality
from jaxalign.buckets import bucket_size, pad_to_bucket
from jaxalign.maps.anchor_rows import as_float
from jaxalign.moments import Moments, init_moments, merge_moments, update_moments
from jaxalign.moments.merging import weigh_moments
from jaxalign.sharding import pad_rows

Pairs = Mapping[Modality, tuple[np.ndarray, np.ndarray]]
"""By modality, source rows and target rows, checked, on the host."""

SMALLEST_BATCH = 256


Weights = Mapping[Modality, np.ndarray]
"""By modality, one weight a row; a modality that is missing has equal ones."""


def all_moments(pairs, weights: Weights, *, grams, batch_size):
    """Moments of every modality, each about its own means."""
    return {
        name: moments_of(
            source, target, weights.get(name), grams=grams, batch_size=batch_size
        )
        for name, (source, target) in pairs.items()
    }


def moments_of(
    source, target, weights=None, *, grams, batch_size, group=None, groups=None
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


def _batches(source, target, batch_size) -> Iterator[tuple]:
    """Cut rows into padded batches; all small sets share one size and compilation."""
    n = source.shape[0]
    if isinstance(source, jax.Array):
        # In memory as it is: one batch, which `update_moments` cuts into blocks.
        yield 0, pad_to_bucket(source), pad_to_bucket(target), bucket_size(n)
        return
    size = min(batch_size, max(SMALLEST_BATCH, 1 << (n - 1).bit_length()))
    for start in range(0, n, size):
        rows = slice(start, start + size)
        sides = (pad_rows(as_float(side[rows]), size)[0] for side in (source, target))
        yield start, *sides, size


def pool_moments(left: Moments, right: Moments) -> Moments:
    """Add moments that are each centred by their own means.

    Merging would add the gap between the modalities as if it were signal. Each set
    costs one direction of rank, which the number of rows stands for.
    """

    def about_zero(moments):
        return dataclasses.replace(
            moments,
            source_mean=jnp.zeros_like(moments.source_mean),
            target_mean=jnp.zeros_like(moments.target_mean),
        )

    merged = merge_moments(about_zero(left), about_zero(right))
    return dataclasses.replace(merged, rows=merged.rows - 1)


def pool_weighted(
    moments: Mapping[Modality, Moments], weights: Mapping[Modality, float]
) -> Moments:
    """Pool the moments of the modalities that have a weight."""
    return _pool({name: moments[name] for name in weights}, dict(weights))


@jax.jit
def _pool(moments, weights):
    """Weigh and add; jitted whole, since eager calls would compile each operation."""
    return functools.reduce(
        pool_moments,
        [weigh_moments(moments[name], weight) for name, weight in weights.items()],
    )
