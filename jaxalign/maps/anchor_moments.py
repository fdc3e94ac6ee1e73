# SPDX-License-Identifier: Apache-2.0
"""Moments of a user's anchors, by modality, batch by batch, or of all at once."""

import dataclasses
from collections.abc import Iterator, Mapping

import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import Modality
from jaxalign.maps.checks import as_float
from jaxalign.moments import Moments, init_moments, merge_moments, update_moments
from jaxalign.sharding import pad_rows

Pairs = Mapping[Modality, tuple[np.ndarray, np.ndarray]]
"""By modality, source rows and target rows, checked."""

SMALLEST_BATCH = 256


def all_moments(pairs, *, grams, batch_size) -> dict[Modality, Moments]:
    """Moments of every modality, each about its own means."""
    return {
        name: moments_of(*sides, grams=grams, batch_size=batch_size)
        for name, sides in pairs.items()
    }


def moments_of(source, target, *, grams, batch_size) -> Moments:
    """Moments of one modality, batch by batch, one compilation for all batches."""
    moments = init_moments(source.shape[1], target.shape[1], grams=grams)
    for left, right, mask in _batches(source, target, batch_size):
        moments = update_moments(moments, left, right, weights=mask)
    return moments


def _batches(source, target, batch_size) -> Iterator[tuple]:
    """Cut rows into padded batches; all small sets share one size and compilation."""
    n = source.shape[0]
    size = min(batch_size, max(SMALLEST_BATCH, 1 << (n - 1).bit_length()))
    for start in range(0, n, size):
        left, mask = pad_rows(as_float(source[start : start + size]), size)
        right, _ = pad_rows(as_float(target[start : start + size]), size)
        yield left, right, mask


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
