# SPDX-License-Identifier: Apache-2.0
"""Queries against an index in blocks: the loop under every retrieval metric."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxalign.array_types import ArrayLike
from jaxalign.buckets import bucket_size, keeps_shape
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import native_floats
from jaxalign.precise import product

# Fewer rows take no less time.
_LEAST = 256
# Rows of an index, or pairs, that are copied to be padded, at most.
_COPIED = 8192


class IndexBlocks(NamedTuple):
    """Index rows in blocks; a padded row has number -1."""

    rows: Float[Array, "blocks size d"]
    offsets: Float[Array, "blocks size"]
    numbers: Int[Array, "blocks size"]


def block_scores(query_block, block: IndexBlocks):
    """Cosine minus offset of unit rows, -inf for padding."""
    cosines = product(query_block, block.rows.T)  # (q, size)
    return jnp.where(
        block.numbers[None, :] >= 0, cosines - block.offsets[None, :], -jnp.inf
    )


def cut_index(index, offsets, size: int, valid=None) -> IndexBlocks:
    """Cut unit index rows into blocks of `size`, padding the last one."""
    count, width = index.shape
    offsets = jnp.zeros(count) if offsets is None else jnp.asarray(offsets)
    numbers = jnp.arange(count, dtype=jnp.int32)
    numbers = numbers if valid is None else jnp.where(valid, numbers, -1)
    tail = -count % size
    return IndexBlocks(
        rows=jnp.pad(index, ((0, tail), (0, 0))).reshape(-1, size, width),
        offsets=jnp.pad(offsets.astype(index.dtype), (0, tail)).reshape(-1, size),
        numbers=jnp.pad(numbers, (0, tail), constant_values=-1).reshape(-1, size),
    )


def over_query_blocks(function, sides: tuple, size: int):
    """Apply `function` to blocks of `size` rows of all `sides`, one after another."""
    count = sides[0].shape[0]
    if count <= size:
        return function(*sides)
    tail = -count % size
    blocks = [
        jnp.pad(side, ((0, tail),) + ((0, 0),) * (side.ndim - 1)).reshape(
            -1, size, *side.shape[1:]
        )
        for side in sides
    ]
    results = jax.lax.map(lambda block: function(*block), tuple(blocks))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], results)


def row_size(count: int, *arrays: ArrayLike | None) -> int:
    """Size to pad `count` rows to; `count` if one of the arrays must keep its shape."""
    return count if keeps_shape(*arrays) else max(_LEAST, bucket_size(count))


def few_rows_size(count: int, *arrays: ArrayLike | None) -> int:
    """Size to pad `count` rows to; many are not copied at every call."""
    return count if count > _COPIED else row_size(count, *arrays)


def check_offsets(call: str, offsets: Any, count: int) -> ArrayLike:
    """Validate the offsets of an index's `count` rows; None stands for zeros."""
    if offsets is None:
        return np.zeros(count, np.float32)
    array = offsets if isinstance(offsets, jax.Array) else np.asarray(offsets)
    if array.shape != (count,) or not jnp.issubdtype(array.dtype, jnp.floating):
        raise ArgumentError(
            f"{call}(offsets=...)",
            f"real floating offsets of shape ({count},)",
            f"{array.dtype} of shape {array.shape}",
            "give one offset per index row",
        )
    return native_floats(array)
