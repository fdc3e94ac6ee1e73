# SPDX-License-Identifier: Apache-2.0
"""Retrieval by cosine, streamed over the index: top-k, exact recall, class top-1.

The evaluate step of the data flow. No queries x index matrix is ever held: both sides
go through in blocks (`block_search`). Scores are ``cosine - offset``, where the offset
of an index row tames its hubness (none: plain cosine).

Ties are settled against the query: an index row that scores as high as the right one,
up to rounding, is ranked before it. So a collapsed map, whose rows are all alike,
scores 0, and so does one that returns NaN.
"""

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxalign.array_types import ArrayLike
from jaxalign.buckets import bucket_size, first_rows, keeps_shape, pad_to_size
from jaxalign.evaluate.block_search import best_rows, class_hits, ranks_of
from jaxalign.evaluate.blocks import check_offsets, few_rows_size, row_size
from jaxalign.float_rows import float_rows


class Recall(NamedTuple):
    """Hits of every query within its first `k` rows, for several `k`."""

    ks: tuple[int, ...]
    hits: Bool[np.ndarray, "ks n"]
    ranks: Int[np.ndarray, " n"]

    def at(self, k: int) -> float:
        """Share of queries whose right row is among the first `k`."""
        return float(np.mean(self.hits[self.ks.index(k)]))


def top_k(
    queries: Float[ArrayLike, "n d"],
    index: Float[ArrayLike, "m d"],
    k: int,
    *,
    offsets: Float[ArrayLike, " m"] | None = None,
    block_size: int = 4096,
    query_block_size: int = 1024,
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """Find the `k` index rows that score highest for every query, best first.

    The score is ``cosine(query, row) - offset(row)``. Equal scores are listed by row.

    Args:
      queries: ``(n, d)``, rows of any norm.
      index: ``(m, d)``, rows of any norm.
      k: static; between 1 and ``m``.
      offsets: ``(m,)`` subtracted from the scores of the index rows.
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
    queries, index, offsets = _validated("top_k", queries, index, offsets)
    n, m = queries.shape[0], index.shape[0]
    if not isinstance(k, numbers.Integral) or not 1 <= k <= m:
        raise ValueError(
            f"`top_k(k={k!r})`: expected 1 to {m}, the rows of the index; pass a whole "
            "number in that range."
        )
    sides = (queries, index, offsets)
    n_padded, m_padded, k_padded = n, few_rows_size(m, *sides), int(k)
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
        block_size=block_size,
        query_block_size=query_block_size,
    )
    return first_rows(scores, n, int(k)), first_rows(rows, n, int(k))


def exact_recall(
    queries: Float[ArrayLike, "n d"],
    index: Float[ArrayLike, "m d"],
    truth: Int[ArrayLike, " n"],
    ks: Sequence[int] = (1, 10),
    *,
    index_ids: Int[ArrayLike, " m"] | None = None,
    offsets: Float[ArrayLike, " m"] | None = None,
) -> Recall:
    """Count for every query how many index rows come before the right one.

    The rank is the number of other rows whose score is not below the right row's (by
    more than 8 eps of the dtype): ties, NaN and zero rows count against the query.

    Args:
      queries: ``(n, d)``, rows of any norm.
      index: ``(m, d)``, rows of any norm.
      truth: ``(n,)`` the index row that is right for each query.
      ks: depths at which hits are counted.
      index_ids: ``(m,)``; rows that share the right row's id (another rendering of one
        thing, the same text twice) are not counted against the query. Default: every
        row is its own.
      offsets: ``(m,)`` subtracted from the scores of the index rows.

    Returns:
      Hits ``(len(ks), n)`` per query, to be averaged or resampled, and ranks ``(n,)``.

    Raises:
      ValueError: if shapes do not fit or `truth` leaves the index.

    >>> exact_recall(np.eye(3), np.eye(3), np.arange(3), (1,)).at(1)
    1.0
    >>> exact_recall(np.ones((3, 3)), np.ones((3, 3)), np.arange(3), (1,)).at(1)
    0.0
    """
    queries, index, offsets = _validated("exact_recall", queries, index, offsets)
    n, m = queries.shape[0], index.shape[0]
    truth = np.asarray(truth, np.int32)
    if truth.shape != (n,) or (n and not (0 <= truth.min() and truth.max() < m)):
        raise ValueError(
            f"`exact_recall(truth=...)`: expected {n} rows of the index, each 0 to "
            f"{m - 1}, got shape {truth.shape}; give one index row per query."
        )
    ids = np.arange(m) if index_ids is None else np.asarray(index_ids)
    if ids.shape != (m,):
        raise ValueError(
            f"`exact_recall(index_ids=...)`: expected shape ({m},), got {ids.shape}; "
            "give one id per index row."
        )
    ids = np.unique(ids, return_inverse=True)[1].astype(np.int32)
    sides = (queries, index, offsets)
    n_padded, m_padded = row_size(n, *sides), few_rows_size(m, *sides)
    ranks = ranks_of(
        pad_to_size(queries, n_padded),
        pad_to_size(index, m_padded),
        pad_to_size(truth, n_padded),
        pad_to_size(ids, m_padded, fill=-1),
        pad_to_size(offsets, m_padded),
    )
    ranks = np.asarray(ranks)[:n]
    hits = np.stack([ranks < k for k in ks])
    return Recall(ks=tuple(ks), hits=hits, ranks=ranks)


def class_top1(
    queries: Float[ArrayLike, "n d"],
    query_labels: Int[ArrayLike, " n"],
    index: Float[ArrayLike, "m d"],
    index_labels: Int[ArrayLike, " m"],
    *,
    exclude: Int[ArrayLike, " n"] | None = None,
    offsets: Float[ArrayLike, " m"] | None = None,
) -> Bool[np.ndarray, " n"]:
    """Tell for every query whether its nearest index row is of its class.

    A hit needs the best row of the query's class to beat the best row of every other
    class by more than 8 eps: ties count against the query.

    Args:
      queries: ``(n, d)``, rows of any norm.
      query_labels: ``(n,)`` class of each query.
      index: ``(m, d)``, rows of any norm.
      index_labels: ``(m,)`` class of each index row.
      exclude: ``(n,)`` one index row per query that is left out (the query's own
        example), or -1 for none.
      offsets: ``(m,)`` subtracted from the scores of the index rows.

    Returns:
      ``(n,)`` hits; their mean is the top-1 accuracy. A query whose class the index
      lacks is never a hit.

    Raises:
      ValueError: if shapes do not fit.
    """
    queries, index, offsets = _validated("class_top1", queries, index, offsets)
    n, m = queries.shape[0], index.shape[0]
    query_labels, index_labels = np.asarray(query_labels), np.asarray(index_labels)
    if query_labels.shape != (n,) or index_labels.shape != (m,):
        raise ValueError(
            "`class_top1(query_labels=..., index_labels=...)`: expected shapes "
            f"({n},) and ({m},), got {query_labels.shape} and {index_labels.shape}; "
            "give one label per row."
        )
    # Labels become 0, 1, ... so that -1 is free to mark padding.
    numbers = np.unique(
        np.concatenate([query_labels, index_labels]), return_inverse=True
    )
    labels = numbers[1].astype(np.int32)
    excluded = np.full(n, -1) if exclude is None else np.asarray(exclude)
    sides = (queries, index, offsets)
    n_padded, m_padded = row_size(n, *sides), few_rows_size(m, *sides)
    hits = class_hits(
        pad_to_size(queries, n_padded),
        pad_to_size(labels[:n], n_padded),
        pad_to_size(excluded.astype(np.int32), n_padded),
        pad_to_size(index, m_padded),
        pad_to_size(labels[n:], m_padded, fill=-1),
        pad_to_size(offsets, m_padded),
    )
    return np.asarray(hits)[:n]


def _validated(
    call: str, queries: Any, index: Any, offsets: Any
) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
    """Validate both sides and the offsets; without offsets, zeros."""
    index = float_rows(call, "index", index)
    m, width = index.shape
    if m == 0:
        raise ValueError(f"`{call}(index=...)`: expected at least one row, got none.")
    queries = float_rows(call, "queries", queries, width=width)
    return queries, index, check_offsets(call, offsets, m)
