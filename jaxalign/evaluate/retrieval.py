# SPDX-License-Identifier: Apache-2.0
"""Retrieval by cosine, streamed over the index: top-k, exact recall, class top-1.

The evaluate step of the data flow. No queries x index matrix is ever held: both sides
go through in blocks. Scores are ``cosine - offset``, where the offset of an index row
tames its hubness (none: plain cosine).

Ties are settled against the query: an index row that scores as high as the right one,
up to rounding, is ranked before it. So a collapsed map, whose rows are all alike,
scores 0, and so does one that returns NaN.
"""

import functools
import numbers
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxalign.array_types import ArrayLike
from jaxalign.evaluate.blocks import (
    block_scores,
    cut_index,
    over_query_blocks,
    pad_rows,
)
from jaxalign.evaluate.cosine import unit_rows

# The right row's score is a row-wise sum, the others' come from a matrix product: the
# two round differently, by up to 3 eps for unit rows up to d = 4096.
_TIE_EPS = 8

# Rows are padded to a multiple of this, so that tables of nearly one size share one
# compiled program.
_PAD_ROWS, _PAD_CLASSES = 512, 64


class Recall(NamedTuple):
    """Hits of every query within its first `k` rows, for several `k`."""

    ks: tuple[int, ...]
    hits: Bool[np.ndarray, "ks n"]
    ranks: Int[np.ndarray, " n"]

    def at(self, k: int) -> float:
        """Share of queries whose right row is among the first `k`."""
        return float(np.mean(self.hits[self.ks.index(k)]))


@functools.partial(jax.jit, static_argnames=("k", "block_size", "query_block_size"))
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
      ValueError: if widths differ, `k` does not fit, or there is not one offset a row.

    Notes:
      O(n m d) time; memory beyond inputs O(query_block_size (block_size + k)).

    >>> scores, rows = top_k(jnp.eye(2), jnp.array([[0.0, 2.0], [3.0, 0.0]]), 1)
    >>> rows[:, 0].tolist()
    [1, 0]
    """
    _check_index("top_k", queries, index)
    count = index.shape[0]
    if not isinstance(k, numbers.Integral) or not 1 <= k <= count:
        raise ValueError(
            f"`top_k(k=...)` expected 1 to {count}, the rows of the index, got {k}; "
            "pass a whole number in that range."
        )
    queries, index = _unit_sides(queries, index)
    offsets = _offsets_or_zeros(offsets, count)
    blocks = cut_index(index, offsets, min(block_size, count))
    # Real rows must beat the empty places below, whatever their score.
    lowest = jnp.finfo(blocks.rows.dtype).min

    def search(query_block: Float[Array, "q d"]):
        # -1 marks a place not yet taken; at least k real rows fill them all.
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
    _check_index("exact_recall", queries, index)
    n, m = queries.shape[0], index.shape[0]
    truth = np.asarray(truth, np.int32)
    if truth.shape != (n,) or (n and not (0 <= truth.min() and truth.max() < m)):
        raise ValueError(
            f"`exact_recall(truth=...)` expected {n} rows of the index, each 0 to "
            f"{m - 1}, got shape {truth.shape}; give one index row per query."
        )
    ids = np.arange(m) if index_ids is None else np.asarray(index_ids)
    if ids.shape != (m,):
        raise ValueError(
            f"`exact_recall(index_ids=...)` expected shape ({m},), got {ids.shape}; "
            "give one id per index row."
        )
    ids = np.unique(ids, return_inverse=True)[1].astype(np.int32)
    ranks = _ranks(
        pad_rows(queries, _PAD_ROWS),
        pad_rows(index, _pad_multiple(m)),
        pad_rows(truth, _PAD_ROWS),
        pad_rows(ids, _pad_multiple(m), fill=-1),
        pad_rows(_offsets_or_zeros(offsets, m), _pad_multiple(m)),
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
    _check_index("class_top1", queries, index)
    n, m = queries.shape[0], index.shape[0]
    query_labels, index_labels = np.asarray(query_labels), np.asarray(index_labels)
    if query_labels.shape != (n,) or index_labels.shape != (m,):
        raise ValueError(
            "`class_top1(query_labels=..., index_labels=...)` expected shapes "
            f"({n},) and ({m},), got {query_labels.shape} and {index_labels.shape}; "
            "give one label per row."
        )
    # Labels become 0, 1, ... so that -1 is free to mark padding.
    numbers = np.unique(
        np.concatenate([query_labels, index_labels]), return_inverse=True
    )
    labels = numbers[1].astype(np.int32)
    excluded = np.full(n, -1) if exclude is None else np.asarray(exclude)
    hits = _class_hits(
        pad_rows(queries, _PAD_ROWS),
        pad_rows(labels[:n], _PAD_ROWS),
        pad_rows(excluded.astype(np.int32), _PAD_ROWS),
        pad_rows(index, _pad_multiple(m)),
        pad_rows(labels[n:], _pad_multiple(m), fill=-1),
        pad_rows(_offsets_or_zeros(offsets, m), _pad_multiple(m)),
    )
    return np.asarray(hits)[:n]


@jax.jit
def _ranks(queries, index, truth, ids, offsets):
    """Number of index rows not below the right row, per query."""
    queries, index = _unit_sides(queries, index)
    blocks = cut_index(index, offsets, _PAD_ROWS, valid=ids >= 0)
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
            rival = (block_ids[None, :] != right_id[:, None]) & (block_ids >= 0)[
                None, :
            ]
            return ahead + jnp.sum(before & rival, axis=1, dtype=jnp.int32), None

        start = jnp.zeros(query_block.shape[0], jnp.int32)
        return jax.lax.scan(step, start, (blocks, id_blocks))[0]

    return over_query_blocks(count, (queries, truth), _PAD_ROWS)


@jax.jit
def _class_hits(queries, labels, excluded, index, index_labels, offsets):
    """Whether the best row of the query's class beats all others, per query."""
    queries, index = _unit_sides(queries, index)
    blocks = cut_index(index, offsets, _PAD_ROWS, valid=index_labels >= 0)
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
    return over_query_blocks(judge, sides, _PAD_ROWS)


def _unit_sides(queries, index):
    """Unit rows of both sides, in one dtype."""
    queries, index = unit_rows(queries), unit_rows(index)
    dtype = jnp.promote_types(queries.dtype, index.dtype)
    return queries.astype(dtype), index.astype(dtype)


def _pad_multiple(count: int) -> int:
    """Short indexes (class texts) are padded less."""
    return _PAD_CLASSES if count < _PAD_ROWS // 2 else _PAD_ROWS


def _offsets_or_zeros(offsets, count: int) -> ArrayLike:
    """Offsets of the index rows, checked, or zeros."""
    if offsets is None:
        return np.zeros(count, np.float32)
    if offsets.shape != (count,):
        raise ValueError(
            f"`offsets` expected shape ({count},), got {offsets.shape}; give one "
            "offset per index row."
        )
    return offsets


def _check_index(call: str, queries: ArrayLike, index: ArrayLike) -> None:
    """Raise unless queries and index are matrices of one width."""
    if queries.ndim != 2 or index.ndim != 2 or queries.shape[1] != index.shape[1]:
        raise ValueError(
            f"`{call}(queries=..., index=...)` expected shapes (n, d) and (m, d), got "
            f"{queries.shape} and {index.shape}; map the queries to the index's space "
            "first."
        )
    if index.shape[0] == 0:
        raise ValueError(f"`{call}(index=...)` expected at least one row, got none.")
