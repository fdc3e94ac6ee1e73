# SPDX-License-Identifier: Apache-2.0
"""Hubness offsets: one number an index row that keeps hubs from winning every search.

In many dimensions a few index rows lie near most queries. How near a row lies to what
is usually asked shows on the aligned anchors, before any query comes: its offset is
measured once, stored with the index, and subtracted from its cosines (`top_k`).

References:
  Lample, Conneau, Ranzato, Denoyer, Jegou, "Word translation without parallel data",
  2018, arXiv 1710.04087 (CSLS; here its index side alone, measured on anchors).
"""

import functools
import numbers

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxalign.array_types import ArrayLike
from jaxalign.buckets import bucket_size, first_rows, keeps_shape, pad_to_size
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import float_rows
from jaxalign.search.block_search import best_rows
from jaxalign.search.blocks import check_offsets, few_rows_size, row_size
from jaxalign.unit_rows import unit_rows

_QUERY_BLOCK = 1024


def hubness_offsets(
    aligned_anchors: Float[ArrayLike, "n d"],
    index: Float[ArrayLike, "m d"],
    *,
    k: int = 5,
    unit: bool = False,
    block_size: int = 4096,
) -> Float[Array, " m"]:
    r"""Measure how near each index row lies to what is usually asked.

    With :math:`N_k(y)` the `k` anchors :math:`x` nearest to the index row :math:`y`,
    the offset is :math:`\frac{1}{2k} \sum_{x \in N_k(y)} \cos(x, y)`, to be subtracted
    from the cosines of :math:`y`.

    Args:
      aligned_anchors: ``(n, d)``, brought to the index's space as queries will be; a
        sample of the queries to come does as well.
      index: ``(m, d)``, rows of any norm, as they will be searched.
      k: static; anchors averaged over, between 1 and ``n``.
      unit: static; take inner products of rows as they are, instead of cosines.
      block_size: static; anchors scored at a time.

    Returns:
      ``(m,)`` offsets; of cosines, between -0.5 and 0.5.

    Raises:
      ValueError: if a side is no matrix of real floating rows, widths differ, or `k`
        does not fit.

    Notes:
      O(n m d) time, in blocks: no m x n table is held. An anchor that stands in the
      index itself pushes its own row down: measure with others, or accept it.

    >>> hub, other = [1.0, 0.0], [0.0, 1.0]
    >>> anchors = jnp.array([hub, [0.8, 0.6], [0.8, -0.6]])
    >>> offsets = hubness_offsets(anchors, jnp.array([hub, other]), k=2)
    >>> [round(offset, 2) for offset in offsets.tolist()]
    [0.45, 0.15]
    """
    call = "hubness_offsets"
    index = float_rows(call, "index", index)
    anchors = float_rows(call, "aligned_anchors", aligned_anchors, width=index.shape[1])
    n, m = anchors.shape[0], index.shape[0]
    if not isinstance(k, numbers.Integral) or not 1 <= k <= n:
        raise ArgumentError(
            f"hubness_offsets(k={k!r})",
            f"1 to {n}, the number of anchors",
            remedy="pass more anchors, or a smaller k",
        )
    n_padded, m_padded = row_size(n, anchors, index), few_rows_size(m, anchors, index)
    most = int(k)
    if not keeps_shape(anchors, index):
        most = min(bucket_size(most), n_padded)
    offsets = _offsets(
        pad_to_size(anchors, n_padded),
        pad_to_size(index, m_padded),
        np.int32(n),
        np.int32(k),
        most=most,
        unit=unit,
        block_size=block_size,
    )
    return first_rows(offsets, m)


@functools.partial(jax.jit, static_argnames=("most", "unit", "block_size"))
def _offsets(anchors, index, count, k, *, most, unit, block_size):
    """Half the mean cosine of the `k` nearest of `count` anchors, `k` up to `most`."""
    cosines, _ = best_rows(
        index,
        anchors,
        jnp.zeros(anchors.shape[0], jnp.float32),
        count,
        k=most,
        unit=unit,
        block_size=block_size,
        query_block_size=_QUERY_BLOCK,
    )
    counted = jnp.arange(most, dtype=jnp.int32)[None, :] < k
    total = jnp.sum(jnp.where(counted, cosines, 0.0), axis=1)
    return 0.5 * total / k.astype(cosines.dtype)


def append_offsets(
    index: Float[ArrayLike, "m d"],
    offsets: Float[ArrayLike, " m"],
    *,
    unit: bool = False,
) -> Float[Array, "m d_plus_1"]:
    """Make index rows whose inner product with ``(query, 1)`` is cosine minus offset.

    So any index for inner products (FAISS, a vector store) takes offsets, as one more
    dimension. Queries are made by offsets of -1.

    Args:
      index: ``(m, d)``, rows of any norm.
      offsets: ``(m,)``.
      unit: static; take the rows as they are, instead of unit rows.

    Returns:
      ``(m, d + 1)``: unit rows, and minus the offset. Not unit rows: the store must not
      normalise them.

    Raises:
      ValueError: if `index` is no matrix of real floating rows, or there is not one
        offset a row.
    """
    index = float_rows("append_offsets", "index", index)
    offsets = check_offsets("append_offsets", offsets, index.shape[0])
    size = few_rows_size(index.shape[0], index, offsets)
    padded = pad_to_size(index, size), pad_to_size(offsets, size)
    wide = _append(*padded, unit=unit)
    return first_rows(wide, index.shape[0], index.shape[1] + 1)


@functools.partial(jax.jit, static_argnames=("unit",))
def _append(rows, offsets, *, unit):
    """Rows with minus their offset as one more column."""
    units = rows if unit else unit_rows(rows)
    return jnp.concatenate([units, -offsets.astype(units.dtype)[:, None]], axis=1)
