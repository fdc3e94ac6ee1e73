# SPDX-License-Identifier: Apache-2.0
"""Top-k by cosine less offset, streamed over the index.

No queries x index matrix is ever held: both sides go through in blocks
(`block_search`). The offset of an index row counters its hubness (none: plain cosine).
"""

from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from jaxalign.array_types import ArrayLike
from jaxalign.buckets import bucket_size, first_rows, keeps_shape, pad_to_size
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import float_rows
from jaxalign.search.block_search import best_rows
from jaxalign.search.blocks import check_offsets, few_rows_size

BLOCK_SIZE, QUERY_BLOCK_SIZE = 4096, 1024


def top_k(
    queries: Float[ArrayLike, "n d"],
    index: Float[ArrayLike, "m d"],
    k: int,
    *,
    offsets: Float[ArrayLike, " m"] | None = None,
    unit: bool = False,
    block_size: int = BLOCK_SIZE,
    query_block_size: int = QUERY_BLOCK_SIZE,
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """Find the `k` index rows that score highest for every query, best first.

    The score is ``cosine(query, row) - offset(row)``. Equal scores are listed by row.

    Args:
      queries: ``(n, d)``, rows of any norm.
      index: ``(m, d)``, rows of any norm.
      k: static; between 1 and ``m``.
      offsets: ``(m,)`` subtracted from the scores of the index rows.
      unit: static; whether the rows of both sides have norm 1 already.
      block_size: static; index rows scored at a time.
      query_block_size: static; queries scored at a time.

    Returns:
      Scores ``(n, k)`` and index rows ``(n, k)``, int32. A row whose score is NaN comes
      last, as minus infinity.

    Raises:
      ValueError: if a side is no matrix of real floating rows, widths differ, `k` does
        not fit, or there is not one offset a row.

    Notes:
      O(n m d) time; memory beyond inputs O(query_block_size (block_size + k)). Outside
      jit the numbers of queries, of index rows (up to 8192) and `k` are padded to
      buckets, so that similar calls share a program; inside jit shapes stay.

    >>> scores, rows = top_k(np.eye(2), np.array([[0.0, 2.0], [3.0, 0.0]]), 1)
    >>> rows[:, 0].tolist()
    [1, 0]
    """
    queries, index, offsets = validated("top_k", queries, index, offsets)
    n, m = queries.shape[0], index.shape[0]
    k = check_depth("top_k", k, m)
    sides = (queries, index, offsets)
    n_padded, m_padded, k_padded = n, few_rows_size(m, *sides), k
    if not keeps_shape(*sides):
        # Much may hang on each query, and the single best is found faster.
        n_padded = bucket_size(n)
        k_padded = 1 if k == 1 else min(bucket_size(k_padded), m_padded)
    scores, rows = best_rows(
        pad_to_size(queries, n_padded),
        pad_to_size(index, m_padded),
        pad_to_size(offsets, m_padded),
        np.int32(m),
        k=k_padded,
        unit=unit,
        block_size=block_size,
        query_block_size=query_block_size,
    )
    return first_rows(scores, n, k), first_rows(rows, n, k)


def check_depth(call: str, k: Any, m: int) -> int:
    """Return `k` as an int; raise unless it is between 1 and `m`."""
    whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
    if not whole or not 1 <= k <= m:
        raise ArgumentError(
            f"{call}(k={k!r})",
            f"1 to {m}, the rows of the index",
            remedy="pass a whole number in that range",
        )
    return int(k)


def validated(
    call: str, queries: Any, index: Any, offsets: Any
) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
    """Validate both sides and the offsets of a search; without offsets, zeros."""
    index = float_rows(call, "index", index)
    m, width = index.shape
    if m == 0:
        raise ArgumentError(f"{call}(index=...)", "at least one row", "none")
    queries = float_rows(call, "queries", queries, width=width)
    return queries, index, check_offsets(call, offsets, m)
