# SPDX-License-Identifier: Apache-2.0
"""Moments of several modalities added up, each about its own means.

Merging would add the gap between the modalities as if it were signal.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxalign.array_types import Modality
from jaxalign.moments.merging import merge_moments, weigh_moments
from jaxalign.moments.statistics import Moments


def pool_modalities(
    moments: Mapping[Modality, Moments], weights: Mapping[Modality, float]
) -> Moments:
    """Add the moments of the modalities in `weights`, times their weights.

    Each modality costs one direction of rank, which the number of rows stands for.

    Args:
      moments: by modality, of at least those in `weights`, batched alike.
      weights: by modality.
    """
    # Lists: names of modalities would be part of the program.
    return _pool([moments[name] for name in weights], list(weights.values()))


@jax.jit
def _pool(moments, weights):
    """Weigh and add; jitted whole, since eager calls would compile each operation."""
    parts = map(weigh_moments, moments, weights)
    return functools.reduce(_add_about_means, parts)


def _add_about_means(left: Moments, right: Moments) -> Moments:
    """Add two moments that are each centred by their own means."""

    def about_zero(moments):
        return dataclasses.replace(
            moments,
            source_mean=jnp.zeros_like(moments.source_mean),
            target_mean=jnp.zeros_like(moments.target_mean),
        )

    merged = merge_moments(about_zero(left), about_zero(right))
    return dataclasses.replace(merged, rows=merged.rows - 1)
