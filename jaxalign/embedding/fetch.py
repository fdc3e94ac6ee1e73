# SPDX-License-Identifier: Apache-2.0
"""From the devices to the host: a stream of rows fetched late, or a whole set."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxalign.embedding.batch import EmbeddedSet, EmbeddingBatch
from jaxalign.errors import ArgumentError


def fetch(
    stream: Iterable[tuple[EmbeddingBatch, ...]], *, ahead: int = 2
) -> Iterator[tuple[EmbeddingBatch, ...]]:
    """Bring a stream's rows to the host, later batches already on their way.

    To wait for each batch at once would leave the device idle while the next one is
    handed over; to wait for none would pile up rows without end.

    Args:
      stream: what `embed` yields.
      ahead: batches that may be computing while an earlier one is handed out.

    Yields:
      The same batches, rows as NumPy arrays; on a mesh of several processes this
      process's rows alone.
    """
    waiting: collections.deque[tuple[EmbeddingBatch, ...]] = collections.deque()
    for batches in stream:
        for batch in batches:
            for rows in (batch.image, batch.text):
                if isinstance(rows, jax.Array):
                    rows.copy_to_host_async()
        waiting.append(batches)
        if len(waiting) > ahead:
            yield _on_host(waiting.popleft())
    while waiting:
        yield _on_host(waiting.popleft())


def gather(
    stream: Iterable[tuple[EmbeddingBatch, ...]],
    *,
    report: Callable[[int], None] = lambda rows: None,
) -> tuple[EmbeddedSet, ...]:
    """Collect a stream of batches on the host, without its masked rows.

    Args:
      stream: what `embed` yields, with texts; at least one batch.
      report: called with the number of rows gathered, after each batch.

    Returns:
      One set a model.

    Raises:
      ValueError: if the stream is empty, or without texts.
    """
    kept: list[tuple[EmbeddingBatch, ...]] = []
    count = 0
    for batches in fetch(stream):
        kept.append(batches)
        count += int(batches[0].mask.sum())
        report(count)
    if not kept:
        remedy = "pass the batches of a data set that is not empty"
        raise ArgumentError("gather(stream=...)", "at least one batch", "none", remedy)
    if any(batch.text is None for batch in kept[0]):
        expected = "batches with texts"
        remedy = "collect `fetch(stream)` yourself, or pass batches with texts"
        raise ArgumentError("gather(stream=...)", expected, "images alone", remedy)

    def whole(model: int, name: str) -> np.ndarray:
        parts = (batches[model] for batches in kept)
        return np.concatenate([getattr(part, name)[part.mask] for part in parts])

    names = ("image", "text", "ids", "labels")
    return tuple(
        EmbeddedSet(**{name: whole(model, name) for name in names}, space=batch.space)
        for model, batch in enumerate(kept[0])
    )


def _on_host(batches: tuple[EmbeddingBatch, ...]) -> tuple[EmbeddingBatch, ...]:
    return tuple(
        dataclasses.replace(
            batch,
            image=_local_rows(batch.image),
            text=None if batch.text is None else _local_rows(batch.text),
        )
        for batch in batches
    )


def _local_rows(rows: Float[Array | np.ndarray, "n d"]) -> np.ndarray:
    """Return this process's rows, in order."""
    if not isinstance(rows, jax.Array) or rows.is_fully_addressable:
        return np.asarray(rows)
    shards = sorted(rows.addressable_shards, key=lambda shard: shard.index[0].start)
    return np.concatenate([np.asarray(shard.data) for shard in shards])
