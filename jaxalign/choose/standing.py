# SPDX-License-Identifier: Apache-2.0
"""How far the right row stands out among rivals, pooled over all queries.

Exact top-1 among a few dozen rows saturates: two ways to search that differ by half in
a large index both find everything in a small one. How far a query's right row stands
above its rivals' mean, held against the rivals of all queries, still tells them apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxalign.array_types import ArrayLike
from jaxalign.buckets import pad_to_size
from jaxalign.precise import product
from jaxalign.search.blocks import over_query_blocks, row_size
from jaxalign.unit_rows import unit_sides

_BLOCK = 512
# As in retrieval: scores that differ by less are ties, which count against the query.
_TIE = 8 * float(np.finfo(np.float32).eps)
# A row that more rivals than this share reach is found first by no one.
_TAIL, _SHORTEST_TAIL = 0.02, 256


class Standing(NamedTuple):
    """What one way to search makes of the queries of one fold.

    Attributes:
      hits: whether the best right row beats all rivals.
      lead: score of that row, less the mean score of the query's rivals.
      tail: the highest scores of all queries' rivals, each less its query's mean,
        ascending.
      rivals: how many scores these are the highest of.
    """

    hits: Bool[np.ndarray, " n"]
    lead: Float[np.ndarray, " n"]
    tail: Float[np.ndarray, " t"]
    rivals: int


def stand_out(
    queries: Float[ArrayLike, "n d"],
    query_ids: Int[ArrayLike, " n"],
    index: Float[ArrayLike, "m d"],
    index_ids: Int[ArrayLike, " m"],
    *,
    offsets: Float[ArrayLike, " m"] | None = None,
) -> Standing:
    """Compare each query's right rows with its rivals, by ``cosine - offset``.

    Args:
      queries: ``(n, d)``, rows of any norm.
      query_ids: ``(n,)``, not negative; rows of the index with that id are right, and
        each query has one.
      index: ``(m, d)``, rows of any norm, of two ids or more.
      index_ids: ``(m,)``, not negative.
      offsets: ``(m,)`` subtracted from the scores of the index rows.

    Returns:
      The standing of all queries.

    Notes:
      O(n m d) time, and an n x m table: for folds, not for stores.
    """
    n, m = queries.shape[0], index.shape[0]
    offsets = np.zeros(m, np.float32) if offsets is None else offsets
    n_padded, m_padded = row_size(n), row_size(m)
    hits, lead, beside = _compare(
        pad_to_size(queries, n_padded),
        pad_to_size(np.asarray(query_ids, np.int32), n_padded),
        pad_to_size(index, m_padded),
        pad_to_size(np.asarray(index_ids, np.int32), m_padded, fill=-1),
        pad_to_size(offsets, m_padded),
    )
    scores = np.asarray(beside)[:n, :m].ravel()
    # Right rows are minus infinity, and NaN stands above nothing.
    scores = scores[scores > -np.inf]
    count = len(scores)
    kept = min(count, max(_SHORTEST_TAIL, int(_TAIL * count)))
    first = count - kept
    tail = np.sort(np.partition(scores, first)[first:] if first else scores)
    return Standing(np.asarray(hits)[:n], np.asarray(lead)[:n], tail, count)


def pooled_top1(
    folds: Sequence[Standing], index_size: int
) -> list[Float[np.ndarray, " n"]]:
    r"""Estimate top-1 against many rivals, drawn from those of all queries.

    A row's rivals number a few dozen; all queries' together are thousands. With
    :math:`p` the share of all rivals that stand as high above their own query's mean as
    the right row does above its, it is :math:`(1 - p)^{N - 1}` for an index of N rows,
    and 0 where a rival of the query's own comes first.

    Args:
      folds: by one way to search.
      index_size: N.

    Returns:
      For each fold ``(n,)`` chances; 0 for ties and NaN.

    Notes:
      For comparing ways to search. As a forecast it is too low where some queries'
      rivals lie much closer than others', who then lend them to all.
    """
    pool = np.sort(np.concatenate([fold.tail for fold in folds]))
    count = max(1, sum(fold.rivals for fold in folds))
    # Below the highest of the tails' ends some fold has left scores out.
    complete = max((fold.tail[0] for fold in folds if fold.tail.size), default=np.inf)
    chances = []
    for fold in folds:
        lead = fold.lead - _TIE
        reached = len(pool) - np.searchsorted(pool, lead, side="left")
        share = np.where(lead > complete, reached / count, 1.0)
        # Where all scores fit in the tails, none is left out.
        if count == len(pool):
            share = np.where(np.isfinite(lead), reached / count, 1.0)
        chances.append(fold.hits * np.power(1.0 - share, index_size - 1))
    return chances


@jax.jit
def _compare(queries, query_ids, index, index_ids, offsets):
    """Hits, leads and rivals' scores about their mean, block by block of queries."""
    queries, index = unit_sides(queries, index)

    def compare(rows, ids):
        cosines = product(rows, index.T)  # (q, m)
        scores = cosines - offsets.astype(index.dtype)[None, :]
        right = ids[:, None] == index_ids[None, :]
        rival = ~right & (index_ids >= 0)[None, :]
        best = jnp.max(jnp.where(right, scores, -jnp.inf), axis=1)
        other = jnp.max(jnp.where(rival, scores, -jnp.inf), axis=1)
        total = jnp.sum(jnp.where(rival, scores, 0.0), axis=1)
        mean = total / jnp.maximum(jnp.sum(rival, axis=1, dtype=total.dtype), 1)
        beside = jnp.where(rival, scores - mean[:, None], -jnp.inf)
        return best > other + _TIE, best - mean, beside

    return over_query_blocks(compare, (queries, query_ids), _BLOCK)
