# SPDX-License-Identifier: Apache-2.0
"""Paired rows from two stores of one data set, embedded by different models.

Rows belong together by their ids. Two stores written in one pass over the data have the
same ids in the same order, and are read as they lie. Stores written apart may lack rows
of their own (pictures that one run could not read): the rows that both have are paired.
"""

from jaxalign.anchors.arrays import BATCH_SIZE, Groups, PairSlices, check_rows
from jaxalign.array_types import ArrayLike, Modality
from jaxalign.errors import ArgumentError
from jaxalign.lazy_rows import as_rows, chosen_rows
from jaxalign.rows.matching import MatchedRows, match_rows
from jaxalign.rows.own_store import store_row_set
from jaxalign.spaces import same_space
from jaxalign.store.reader import EmbeddingStore


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
    return match_rows(store_row_set(source), store_row_set(target), call="match_stores")


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
        chosen_rows(as_rows(source.rows(modality)), matched.source),
        chosen_rows(as_rows(target.rows(modality)), matched.target),
        weights,
        group,
        batch_size,
        check_rows(matched.count, rows, batch_size),
    )
