# SPDX-License-Identifier: Apache-2.0
"""Retrieval by cosine, streamed over the index: exact recall and class top-1.

Scores are ``cosine - offset``, as of `top_k`.

Ties are settled against the query: an index row that scores as high as the right one,
up to rounding, is ranked before it. So a collapsed map, whose rows are all alike,
scores 0, and so does one that returns NaN.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxalign.array_types import ArrayLike
from jaxalign.buckets import pad_to_size
from jaxalign.errors import ArgumentError
from jaxalign.search.block_search import class_hits, ranks_of
from jaxalign.search.blocks import few_rows_size, row_size
from jaxalign.search.ranking import validated


class Recall(NamedTuple):
    """Hits of every query within its first `k` rows, for several `k`."""

    ks: tuple[int, ...]
    hits: Bool[np.ndarray, "ks n"]
    ranks: Int[np.ndarray, " n"]

    def at(self, k: int) -> float:
        """Share of queries whose right row is among the first `k`."""
        return float(np.mean(self.hits[self.ks.index(k)]))


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
    queries, index, offsets = validated("exact_recall", queries, index, offsets)
    n, m = queries.shape[0], index.shape[0]
    truth = np.asarray(truth, np.int32)
    if truth.shape != (n,) or (n and not (0 <= truth.min() and truth.max() < m)):
        raise ArgumentError(
            "exact_recall(truth=...)",
            f"{n} rows of the index, each 0 to {m - 1}",
            f"shape {truth.shape}",
            "give one index row per query",
        )
    ids = np.arange(m) if index_ids is None else np.asarray(index_ids)
    if ids.shape != (m,):
        raise ArgumentError(
            "exact_recall(index_ids=...)",
            f"shape ({m},)",
            ids.shape,
            "give one id per index row",
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
    queries, index, offsets = validated("class_top1", queries, index, offsets)
    n, m = queries.shape[0], index.shape[0]
    query_labels, index_labels = np.asarray(query_labels), np.asarray(index_labels)
    if query_labels.shape != (n,) or index_labels.shape != (m,):
        raise ArgumentError(
            "class_top1(query_labels=..., index_labels=...)",
            f"shapes ({n},) and ({m},)",
            f"{query_labels.shape} and {index_labels.shape}",
            "give one label per row",
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
