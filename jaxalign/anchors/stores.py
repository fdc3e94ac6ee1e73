# SPDX-License-Identifier: Apache-2.0
"""Paired rows from two stores of one data set, embedded by different models.

Rows belong together by their ids. Two stores written in one pass over the data have the
same ids in the same order, and are read as they lie. Stores written apart may lack rows
of their own (pictures that one run could not read): the rows that both have are paired.
"""

import dataclasses

import numpy as np
from jaxtyping import Int

from jaxalign.anchors.arrays import BATCH_SIZE, Groups, PairSlices, check_rows
from jaxalign.array_types import ArrayLike, Modality
from jaxalign.errors import ArgumentError
from jaxalign.spaces import same_space
from jaxalign.store.reader import EmbeddingStore

# Ids of this many rows are compared at a time.
_ID_ROWS = 65536

# Rows that are out of order are picked from so many consecutive ones at a time.
_SPAN = 16384


@dataclasses.dataclass(frozen=True)
class MatchedRows:
    """Which rows of two stores belong together, in the source's order.

    Attributes:
      source: ``(n,)`` row numbers, or None where all rows pair as they lie.
      target: likewise.
      count: n.
      source_only: ids that the source store alone has.
      target_only: ids that the target store alone has.
    """

    source: Int[np.ndarray, " n"] | None
    target: Int[np.ndarray, " n"] | None
    count: int
    source_only: int = 0
    target_only: int = 0


def match_stores(source: EmbeddingStore, target: EmbeddingStore) -> MatchedRows:
    """Find the rows of two stores that show the same thing, by their ids.

    Args:
      source: of the source model.
      target: of the target model, of the same data.

    Returns:
      The pairs of rows.

    Raises:
      ValueError: if the stores share no id, or are of one space.

    Notes:
      Equal stores are compared block by block in constant memory; others take memory
      for all their ids.
    """
    call = "match_stores(source=..., target=...)"
    if same_space(source.space, target.space):
        raise ArgumentError(
            call,
            "stores of two models",
            f"two of space {source.space[:12]}...",
            "embed the data with the other model too",
        )
    if _have_equal_ids(source, target):
        return MatchedRows(None, None, len(source))
    own, other = source.ids(), target.ids()
    _, first, second = np.intersect1d(
        own, other, assume_unique=True, return_indices=True
    )
    if not len(first):
        raise ArgumentError(
            call,
            "ids that both stores have",
            f"none: such as {str(own[0])!r} and {str(other[0])!r}",
            "embed the same data with both models",
        )
    order = np.argsort(first)
    return MatchedRows(
        first[order],
        second[order],
        len(first),
        len(own) - len(first),
        len(other) - len(first),
    )


def store_pairs(
    source: EmbeddingStore,
    target: EmbeddingStore,
    modality: Modality | None = None,
    *,
    matched: MatchedRows | None = None,
    weights: ArrayLike | None = None,
    group: Groups | None = None,
    batch_size: int = BATCH_SIZE,
    rows: range | None = None,
) -> PairSlices:
    """Walk over paired rows of two stores in constant memory.

    Args:
      source: of the source model.
      target: of the target model.
      modality: which rows, of both; may be left out where both stores have one alone.
      matched: what `match_stores` found; found anew without it.
      weights: ``(n,)`` one a pair, in the order of the pairs.
      group: ``(n,)`` numbers of groups, likewise, or a function from the numbers of
        pairs to them, such as `block_of_rows`.
      batch_size: rows a batch.
      rows: which pairs; all without it.

    Returns:
      An iterator of `PairBatch` for `accumulate_moments`, that knows its place.

    Raises:
      ValueError: see `match_stores`; or if a store lacks the modality, or none is named
        of several.
    """
    if modality is None:
        shared = sorted(set(source.modalities) & set(target.modalities))
        if len(shared) != 1:
            raise ArgumentError(
                "store_pairs(modality=None)",
                f"one of {shared}, the modalities that both stores have",
                remedy="name it",
            )
        (modality,) = shared
    for store in (source, target):
        store.dim(modality)  # Refuses a modality that the store lacks.
    matched = match_stores(source, target) if matched is None else matched
    return PairSlices(
        _StoredRows(source, modality, matched.source),
        _StoredRows(target, modality, matched.target),
        weights,
        group,
        batch_size,
        check_rows(matched.count, rows, batch_size),
    )


class _StoredRows:
    """Rows of one store, sliced like an array."""

    def __init__(
        self, store: EmbeddingStore, modality: Modality, numbers: np.ndarray | None
    ):
        self._store, self._modality, self._numbers = store, modality, numbers
        self._dtype = store.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        if self._numbers is None:
            return self._store.rows(self._modality, rows.start, rows.stop)
        numbers = self._numbers[rows]
        order = np.argsort(numbers)
        found = np.empty((len(numbers), self._store.dim(self._modality)), self._dtype)
        # Span by span: rows in another order may lie anywhere in the store, and what
        # lies between them must not come along.
        spans = numbers[order] // _SPAN
        for places in np.split(order, np.flatnonzero(np.diff(spans)) + 1):
            low, high = int(numbers[places[0]]), int(numbers[places[-1]]) + 1
            part = self._store.rows(self._modality, low, high)
            found[places] = part[numbers[places] - low]
        return found


def _have_equal_ids(source: EmbeddingStore, target: EmbeddingStore) -> bool:
    """Tell whether two stores have the same ids in the same order."""
    if len(source) != len(target):
        return False
    return all(
        np.array_equal(
            source.ids(start, start + _ID_ROWS), target.ids(start, start + _ID_ROWS)
        )
        for start in range(0, len(source), _ID_ROWS)
    )
