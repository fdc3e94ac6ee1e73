# SPDX-License-Identifier: Apache-2.0
"""The compiled searches: queries against an index, block by block.

They take checked arrays of any size; what the sizes are is the caller's business.
Padded queries give results to be cut, padded index rows are marked and never found.
"""

import functools

import jax
import jax.numpy as jnp

from jaxalign.search.blocks import block_scores, cut_index, over_query_blocks
from jaxalign.unit_rows import unit_sides

# The right row's score is a row-wise sum, the others' come from a matrix product: the
# two round differently, by up to 3 eps for unit rows up to d = 4096.
_TIE_EPS = 8

_BLOCK = 512


@functools.partial(
    jax.jit, static_argnames=("k", "unit", "block_size", "query_block_size")
)
def best_rows(
    queries, index, offsets, count, *, k, block_size, query_block_size, unit=False
):
    """Scores and numbers of the `k` best of the first `count` index rows, best first.

    Places beyond `count` hold minus infinity and -1. Rows that are `unit` already are
    not divided by their norms again.
    """
    if unit:
        dtype = jnp.promote_types(queries.dtype, index.dtype)
        queries, index = queries.astype(dtype), index.astype(dtype)
    else:
        queries, index = unit_sides(queries, index)
    valid = jnp.arange(index.shape[0], dtype=jnp.int32) < count
    blocks = cut_index(index, offsets, min(block_size, index.shape[0]), valid)
    # Real rows must beat the empty places below, whatever their score.
    lowest = jnp.finfo(blocks.rows.dtype).min

    def search(query_block):
        # -1 marks a place not yet taken; real rows fill as many as there are.
        empty = (
            jnp.full((query_block.shape[0], k), -jnp.inf, blocks.rows.dtype),
            jnp.full((query_block.shape[0], k), -1, jnp.int32),
        )

        def step(best, block):
            scores = block_scores(query_block, block)  # (q, size)
            real = block.numbers[None, :] >= 0
            scores = jnp.where(real & ~(scores >= lowest), lowest, scores)
            rows = jnp.broadcast_to(block.numbers[None, :], scores.shape)
            scores = jnp.concatenate([best[0], scores], axis=1)
            rows = jnp.concatenate([best[1], rows], axis=1)
            # Earlier rows stand first and top_k is stable: ties go to the lower row.
            best_scores, places = jax.lax.top_k(scores, k)
            return (best_scores, jnp.take_along_axis(rows, places, axis=1)), None

        return jax.lax.scan(step, empty, blocks)[0]

    scores, rows = over_query_blocks(search, (queries,), query_block_size)
    return jnp.where(scores > lowest, scores, -jnp.inf), rows


@jax.jit
def ranks_of(queries, index, truth, ids, offsets):
    """Number of index rows not below the right one; rows of id -1 are padding."""
    queries, index = unit_sides(queries, index)
    offsets = offsets.astype(index.dtype)
    size = min(_BLOCK, index.shape[0])
    blocks = cut_index(index, offsets, size, valid=ids >= 0)
    id_blocks = jnp.pad(ids, (0, blocks.numbers.size - ids.size), constant_values=-1)
    id_blocks = id_blocks.reshape(blocks.numbers.shape)
    slack = _TIE_EPS * jnp.finfo(index.dtype).eps

    def count(query_block, truth_block):
        right = jnp.sum(query_block * index[truth_block], axis=1) - offsets[truth_block]
        right_id = ids[truth_block]

        def step(ahead, block_and_ids):
            block, block_ids = block_and_ids
            # "Not below" rather than "above or equal": true for NaN as well.
            before = ~(block_scores(query_block, block) < (right - slack)[:, None])
            other = block_ids[None, :] != right_id[:, None]
            rival = other & (block_ids >= 0)[None, :]
            return ahead + jnp.sum(before & rival, axis=1, dtype=jnp.int32), None

        start = jnp.zeros(query_block.shape[0], jnp.int32)
        return jax.lax.scan(step, start, (blocks, id_blocks))[0]

    return over_query_blocks(count, (queries, truth), _BLOCK)


@jax.jit
def class_hits(queries, labels, excluded, index, index_labels, offsets):
    """Whether the best row of the query's class beats all others, per query."""
    queries, index = unit_sides(queries, index)
    size = min(_BLOCK, index.shape[0])
    blocks = cut_index(index, offsets, size, valid=index_labels >= 0)
    label_blocks = jnp.pad(
        index_labels, (0, blocks.numbers.size - index_labels.size), constant_values=-1
    ).reshape(blocks.numbers.shape)
    slack = _TIE_EPS * jnp.finfo(index.dtype).eps

    def judge(query_block, label_block, excluded_block):
        def step(best, block_and_labels):
            block, block_labels = block_and_labels
            scores = block_scores(query_block, block)
            out = block.numbers[None, :] == excluded_block[:, None]
            scores = jnp.where(out, -jnp.inf, scores)
            same = block_labels[None, :] == label_block[:, None]
            own = jnp.max(jnp.where(same, scores, -jnp.inf), axis=1)
            other = jnp.max(jnp.where(same, -jnp.inf, scores), axis=1)
            return (jnp.maximum(best[0], own), jnp.maximum(best[1], other)), None

        low = jnp.full(query_block.shape[0], -jnp.inf, index.dtype)
        own, other = jax.lax.scan(step, (low, low), (blocks, label_blocks))[0]
        return own > other + slack

    sides = (queries, labels, excluded)
    return over_query_blocks(judge, sides, _BLOCK)
