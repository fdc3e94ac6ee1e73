# SPDX-License-Identifier: Apache-2.0
"""Groups of rows in one pass: blocks that hold rows of one group each.

Rows are put in order by group, and cut into blocks that end where a group ends. Each
block's product goes to its group, so that groups cost little more than one sum of all:
a masked product per group would cost G times as much.
"""

import math

import jax
import jax.numpy as jnp

from jaxalign.moments.merging import merge_checked
from jaxalign.moments.rows import moments_of_block
from jaxalign.moments.statistics import Moments

# Adding a product to its group costs as much as multiplying a few dozen rows; a group
# wastes half a block on average.
LARGEST_BLOCK, SMALLEST_BLOCK = 512, 32


def grouped_batch(moments: Moments, source, target, weights, group) -> Moments:
    """Merge each row of a batch into the moments of its group.

    Args:
      moments: with one leading axis, G.
      source: ``(n, d_source)``.
      target: ``(n, d_target)``.
      weights: ``(n,)`` or None.
      group: ``(n,)``, 0 to G - 1.
    """
    n, groups = source.shape[0], moments.count.shape[0]
    if n == 0:
        return moments
    size = block_size(n, groups)
    counts, order = _order_by_group(group, weights, groups)
    first = jnp.cumsum(counts) - counts
    blocks = (counts + size - 1) // size
    last_block = jnp.cumsum(blocks)
    dtype, grams = moments.count.dtype, moments.source_gram is not None
    ones = jnp.ones((n,), dtype) if weights is None else jnp.asarray(weights, dtype)

    def step(block, sums):
        number = jnp.searchsorted(last_block, block, side="right")
        inside = block - (last_block[number] - blocks[number])
        places = inside * size + jnp.arange(size)
        rows = order[jnp.minimum(first[number] + places, n - 1)]
        kept = places < counts[number]
        part = moments_of_block(
            source[rows],
            target[rows],
            jnp.where(kept, ones[rows], jnp.zeros((), dtype)),
            dtype=dtype,
            grams=grams,
        )
        own = jax.tree.map(lambda leaf: leaf[number], sums)
        merged = merge_checked(own, part)
        return jax.tree.map(lambda leaf, new: leaf.at[number].set(new), sums, merged)

    # As many steps as there are blocks: a bound known beforehand would waste most.
    return jax.lax.fori_loop(0, last_block[-1], step, moments)


def block_size(n: int, groups: int) -> int:
    """Rows of a block: about a third of a group, a power of two."""
    fitting = max(1, n // (3 * groups))
    return min(LARGEST_BLOCK, max(SMALLEST_BLOCK, 1 << int(math.log2(fitting))))


def _order_by_group(group, weights, groups):
    """Rows by group, (n,), those of weight 0 or of no group last; rows of each, (G,)."""
    kept = (group >= 0) & (group < groups)
    if weights is not None:
        kept &= weights != 0
    number = jnp.where(kept, group, jnp.full_like(group, groups)).astype(jnp.int32)
    counts = jnp.bincount(number, length=groups + 1)[:groups]
    return counts, jnp.argsort(number, stable=True)
