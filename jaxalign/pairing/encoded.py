# SPDX-License-Identifier: Apache-2.0
"""Paired rows straight from two encoders: embedded, used and forgotten."""

from collections.abc import Iterator, Sequence

import jax
import numpy as np

from jaxalign.anchors.arrays import check_rows
from jaxalign.array_types import Modality
from jaxalign.data.examples import Source
from jaxalign.embedding.batch import EmbeddingBatch
from jaxalign.embedding.inputs import embedding_batches
from jaxalign.embedding.stream import embed
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.partition import Partition
from jaxalign.errors import ArgumentError
from jaxalign.moments.passes import PairBatch


class EncodedPairs:
    """An iterator over batches of paired rows as two models make them.

    `get_state` and `set_state` are Grain's protocol: JSON values, so that a checkpoint
    can hold them.
    """

    def __init__(
        self,
        models: Sequence[Encoders],
        examples: Source,
        modality: Modality,
        *,
        batch_size: int,
        by_label: bool,
        rows: range,
        mesh: jax.sharding.Mesh | None,
        partition: Partition,
    ):
        self._models, self._examples, self._modality = models, examples, modality
        self._batch_size, self._by_label = batch_size, by_label
        self._rows, self._mesh = rows, mesh
        self._partition: Partition = partition
        self._next = rows.start
        self._stream: Iterator[tuple[EmbeddingBatch, ...]] | None = None

    def __iter__(self) -> "EncodedPairs":
        return self

    def __next__(self) -> PairBatch:
        if self._next >= self._rows.stop:
            raise StopIteration
        if self._stream is None:
            self._stream = self._embed(range(self._next, self._rows.stop))
        source, target = next(self._stream)
        self._next = min(self._next + self._batch_size, self._rows.stop)
        sides = [
            batch.image if self._modality == "image" else batch.text
            for batch in (source, target)
        ]
        mask = np.asarray(source.mask)
        return PairBatch(
            sides[0],  # pyright: ignore[reportArgumentType]
            sides[1],  # pyright: ignore[reportArgumentType]
            mask,
            np.where(mask, source.labels, 0) if self._by_label else None,
        )

    def get_state(self) -> dict[str, int]:
        """Return the next example's number."""
        return {"next_example": self._next}

    def set_state(self, state: dict[str, int]) -> None:
        """Go to an example, as `get_state` returned it.

        Raises:
          ValueError: if these examples have no such place.
        """
        place = state.get("next_example", -1)
        if not self._rows.start <= place <= self._rows.stop:
            raise ArgumentError(
                f"set_state({state})",
                f"an example from {self._rows.start} to {self._rows.stop}",
                remedy="it is the place in other data",
            )
        self._next, self._stream = place, None

    def _embed(self, left: range) -> Iterator[tuple[EmbeddingBatch, ...]]:
        batches = embedding_batches(
            self._examples,
            self._models,
            batch_size=self._batch_size,
            examples=[left],
        )
        return embed(self._models, batches, mesh=self._mesh, partition=self._partition)


def encoded_pairs(
    source: Encoders,
    target: Encoders,
    examples: Source,
    modality: Modality,
    *,
    batch_size: int = 128,
    by_label: bool = False,
    rows: range | None = None,
    mesh: jax.sharding.Mesh | None = None,
    partition: Partition = "pjit",
) -> EncodedPairs:
    """Embed examples with both models, batch by batch, without storing a row.

    Args:
      source: the source model.
      target: the target model.
      examples: as `load_dataset` gives them.
      modality: "image", or "text" for their captions.
      batch_size: examples a batch, a multiple of the mesh's devices.
      by_label: whether the classes of the examples are the groups of the pairs.
      rows: which examples; all without it.
      mesh: as `embed` takes it.
      partition: as `embed` takes it.

    Returns:
      An iterator of `PairBatch` for `accumulate_moments`, that knows its place.
      Pictures that cannot be read have weight 0.

    Raises:
      ValueError: if the modality is neither, or see `embed`.
    """
    if modality not in ("image", "text"):
        raise ArgumentError(
            f"encoded_pairs(modality={modality!r})",
            "'image' or 'text', what the two models embed",
        )
    return EncodedPairs(
        (source, target),
        examples,
        modality,
        batch_size=batch_size,
        by_label=by_label,
        rows=check_rows(len(examples), rows, batch_size),
        mesh=mesh,
        partition=partition,
    )
