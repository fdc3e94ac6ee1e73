# SPDX-License-Identifier: Apache-2.0
"""Blocks of rows as units of resampling: their effective number."""

import jax
import jax.numpy as jnp

from jaxalign.errors import ArgumentError
from jaxalign.moments import Moments
from jaxalign.moments.statistics import check_moments

# Below this a t interval over blocks is too wide to say anything.
FEWEST_BLOCKS = 8


def flat_groups(moments: Moments) -> Moments:
    """Count all leading axes as one."""
    leading = len(moments.groups)
    return jax.tree.map(lambda x: x.reshape((-1, *x.shape[leading:])), moments)


def effective_blocks(counts):
    """Effective number of blocks, ``(sum n)^2 / sum n^2``."""
    squares = jnp.sum(jnp.square(counts))
    safe = jnp.where(squares == 0, jnp.ones_like(squares), squares)
    return jnp.square(jnp.sum(counts)) / safe


def degrees_of_freedom(counts):
    """Degrees of freedom of a variance over blocks, and its correction n / (n - 1)."""
    worth = jnp.maximum(effective_blocks(counts), 2.0)
    held = jnp.maximum(jnp.sum(counts > 0, dtype=worth.dtype), 2.0)
    return worth - 1.0, held / (held - 1.0)


def check_groups(call: str, moments: object) -> None:
    """Raise for moments without groups, or with too few, naming the call.

    Raises:
      ValueError: saying what came instead.
    """
    moments = check_moments(call, moments)
    groups = moments.count.size if moments.groups else 0
    if groups < FEWEST_BLOCKS:
        raise ArgumentError(
            f"{call}(moments=...)",
            f"at least {FEWEST_BLOCKS} groups to resample",
            groups,
            "keep rows apart in blocks by `update_moments(..., "
            "group=block_of_rows(ids))`, 64 of them by default",
        )
