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

# A block is padded where its group ends, half a block on average; small blocks make
# slow products.
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
    present = jnp.nonzero(counts, size=groups, fill_value=0)[0]
    dtype, grams = moments.count.dtype, moments.source_gram is not None

    def add_group(k, sums):
        number = present[k]

        def add_block(block, own):
            places = block * size + jnp.arange(size)
            rows = order[jnp.minimum(first[number] + places, n - 1)]
            part = moments_of_block(
                _take(source, rows),
                _take(target, rows),
                None if weights is None else _take(weights, rows),
                kept=places < counts[number],
                dtype=dtype,
                grams=grams,
            )
            return merge_checked(own, part)

        blocks = (counts[number] + size - 1) // size
        own = jax.tree.map(lambda leaf: leaf[number], sums)
        own = jax.lax.fori_loop(0, blocks, add_block, own)
        return jax.tree.map(lambda leaf, new: leaf.at[number].set(new), sums, own)

    # Groups without rows in this batch are not touched: there may be thousands.
    return jax.lax.fori_loop(0, jnp.sum(counts > 0), add_group, moments)


def _take(side, rows):
    """Rows that exist: checking each number would cost as much as the products."""
    return jnp.asarray(side).at[rows].get(mode="promise_in_bounds")


def block_size(n: int, groups: int) -> int:
    """Rows of a block: about half a group, a power of two."""
    half = max(1, n // (2 * groups))
    return min(LARGEST_BLOCK, max(SMALLEST_BLOCK, 1 << round(math.log2(half))))


def _order_by_group(group, weights, groups):
    """Count the rows of each group, (G,), and put rows in their order, (n,)."""
    # Rows of weight 0 or of no group come last, and are in no count.
    kept = (group >= 0) & (group < groups)
    if weights is not None:
        kept &= weights.astype(bool)
    number = jnp.where(kept, group, jnp.full_like(group, groups)).astype(jnp.int32)
    counts = jnp.bincount(number, length=groups + 1)[:groups]
    return counts, jnp.argsort(number, stable=True)
