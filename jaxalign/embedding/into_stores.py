# SPDX-License-Identifier: Apache-2.0
"""A source of examples, embedded into stores on disk: by one process or by many.

Each process embeds whole parts of the stores, at its own pace, and only what they miss:
batches have the same examples in them whoever makes them and however often a run is cut
off, so the bytes of the stores are always the same (on the same kind and number of
devices).
"""

import collections
import contextlib
import dataclasses
import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float

from jaxalign.data.examples import CataloguedSource
from jaxalign.embedding.batch import EmbeddingBatch
from jaxalign.embedding.fetch import fetch
from jaxalign.embedding.inputs import embedding_batches
from jaxalign.embedding.stream import embed
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.partition import Partition
from jaxalign.store.reader import EmbeddingStore
from jaxalign.store.writer import StoreWriter

LARGEST_PART = 65536
"""Examples of a part, at most, where nobody says."""

LEAST_PARTS = 32
"""Parts of a store, at least, where nobody says: so many processes have work."""

_WRITES_AHEAD = 4
_POLL_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Share:
    """Which of a run's processes this is: number `index` of `count`."""

    index: int = 0
    count: int = 1

    def examples(self, examples: int, part_examples: int) -> range:
        """Return the examples of this process's parts, which follow each other.

        >>> [Share(index, 2).examples(70, 20) for index in range(2)]
        [range(0, 40), range(40, 70)]
        """
        parts = -(-examples // part_examples)
        first, stop = (
            min(number * parts // self.count * part_examples, examples)
            for number in (self.index, self.index + 1)
        )
        return range(first, stop)


ALONE = Share()
"""The one process of a run."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far this process's share is.

    Attributes:
      examples: embedded now or before, unreadable ones among them.
      unreadable: of those embedded now.
      share: examples that this process is to embed.
    """

    examples: int
    unreadable: int
    share: int


def embed_into_stores(
    source: CataloguedSource,
    encoders: Mapping[str, Encoders],
    folder: str | os.PathLike[str],
    *,
    batch_size: int = 128,
    examples: int | None = None,
    part_examples: int | None = None,
    class_captions: Sequence[str] | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    details: Mapping[str, Any] = {},
    strict: bool = False,
    num_workers: int = 0,
    mesh: jax.sharding.Mesh | None = None,
    partition: Partition = "pjit",
    share: Share = ALONE,
    report: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, EmbeddingStore]:
    """Embed what stores miss, one store a model, in one pass over the data.

    Args:
      source: what `load_dataset` returns.
      encoders: models by the name of their store's folder.
      folder: where the stores are or will be; one that all processes see.
      batch_size: examples a step of this process, a multiple of its devices.
      examples: only the first so many; all by default.
      part_examples: examples a file, rounded up to whole batches; by default
        `LARGEST_PART`, or fewer, for `LEAST_PARTS` files. A process writes whole files.
      class_captions: `DatasetInfo.class_captions`: where a class decides its examples'
        caption, captions are embedded once a class.
      dtype: of the rows on disk.
      details: JSON values that say where the rows come from; a store is gone on only
        with the same.
      strict: raise over a picture that cannot be read, instead of leaving it out.
      num_workers: processes that decode and preprocess ahead; 0: a thread does.
      mesh: over this process's devices; the default device without one.
      partition: see `embed`.
      share: which of several processes this is.
      report: told of the progress, first of what was there before, then after each
        batch is on disk.

    Returns:
      The finished stores. A process whose share is done waits for the others; whoever
      finds all parts written writes the manifest.

    Raises:
      ValueError: if a store holds other rows or is being written by another run, if a
        picture cannot be read and `strict` is set; or see `embed`.
      FullDiskError: if there is no room.
      OtherProcessError: if another process of this run ended with an error. What was
        written is kept in every case.
    """
    count = min(len(source), examples or len(source))
    wanted = part_examples or min(LARGEST_PART, -(-count // LEAST_PARTS))
    part = -(-wanted // batch_size) * batch_size
    own = share.examples(count, part)
    with contextlib.ExitStack() as stack:
        writers = {
            name: stack.enter_context(
                EmbeddingStore.create(
                    Path(folder) / name,
                    space=model.space,
                    examples=count,
                    part_examples=part,
                    modalities={"image": model.dim, "text": model.dim},
                    dtype=dtype,
                    details={
                        "model": model.name,
                        "model_dtype": model.dtype,
                        "examples_fingerprint": source.fingerprint,
                        "batch_size": batch_size,
                        **details,
                    },
                    process_index=share.index,
                )
            )
            for name, model in encoders.items()
        }
        missing = {
            name: writer.missing(own.start, own.stop)
            for name, writer in writers.items()
        }
        left = merge_ranges([part for ranges in missing.values() for part in ranges])
        progress = Progress(len(own) - sum(map(len, left)), 0, len(own))
        report(progress)
        if left:
            models = tuple(encoders.values())
            class_rows = {
                # The last row is for the label -1: examples without a class.
                name: model.embed_texts([*class_captions, ""])
                for name, model in encoders.items()
                if class_captions is not None
            }
            batches = embedding_batches(
                source,
                models,
                batch_size=batch_size,
                examples=left,
                with_texts=class_captions is None,
                strict=strict,
                num_workers=num_workers,
            )
            stream = embed(models, batches, mesh=mesh, partition=partition)

            def write(group: tuple[EmbeddingBatch, ...]) -> None:
                for (name, writer), batch in zip(writers.items(), group, strict=True):
                    append_batch(writer, batch, missing[name], class_rows.get(name))

            next_check = 0.0
            for group in _written(fetch(stream), write):
                real = group[0].index >= 0
                progress = dataclasses.replace(
                    progress,
                    examples=progress.examples + int(real.sum()),
                    unreadable=progress.unreadable + int((real & ~group[0].mask).sum()),
                )
                report(progress)
                if share.count > 1 and time.monotonic() > next_check:
                    for writer in writers.values():
                        writer.check_others()
                    next_check = time.monotonic() + _POLL_SECONDS
            # JAX lets go of arrays that it was handed when garbage is collected; the
            # last ones, shared with workers, would else be found unowned at the end.
            gc.collect()
        return {name: _finish_together(writer) for name, writer in writers.items()}


def append_batch(
    writer: StoreWriter,
    batch: EmbeddingBatch,
    missing: Sequence[range],
    class_rows: Float[np.ndarray, "classes d"] | None = None,
) -> None:
    """Append a batch to a store that misses it; leave out what cannot be read.

    Args:
      writer: of the store.
      batch: rows on the host.
      missing: the examples that the store misses; other batches are passed over.
      class_rows: text rows by label, instead of the batch's own.
    """
    real = batch.index >= 0
    first = int(batch.index[0])
    if not any(first in part for part in missing):
        return
    kept = batch.mask
    labels = batch.labels[kept]
    text = np.asarray(batch.text)[kept] if class_rows is None else class_rows[labels]
    ids = batch.ids[kept].tolist()
    writer.append(
        {"image": np.asarray(batch.image)[kept], "text": text},
        first=first,
        examples=int(real.sum()),
        ids=ids,
        columns={
            "image_path": ids,
            "caption": batch.captions[kept].tolist(),
            "label": labels.tolist(),
        },
        skipped=[
            (str(batch.ids[row]), str(batch.problems[row]))
            for row in np.flatnonzero(real & ~kept)
        ],
    )


def merge_ranges(ranges: Sequence[range]) -> list[range]:
    """Return the union of ranges as sorted ranges that do not touch.

    >>> merge_ranges([range(4, 8), range(0, 2), range(1, 4), range(9, 10)])
    [range(0, 8), range(9, 10)]
    """
    merged: list[range] = []
    for part in sorted(ranges, key=lambda part: part.start):
        if merged and part.start <= merged[-1].stop:
            stop = max(merged[-1].stop, part.stop)
            merged[-1] = range(merged[-1].start, stop)
        else:
            merged.append(part)
    return merged


def _written(
    groups: Iterable[tuple[EmbeddingBatch, ...]],
    write: Callable[[tuple[EmbeddingBatch, ...]], None],
) -> Iterator[tuple[EmbeddingBatch, ...]]:
    """Write groups in order in a thread of its own; yield each when it is on disk.

    The disk is waited for there, while here the next batch is handed to the device.
    """
    waiting: collections.deque[tuple[tuple[EmbeddingBatch, ...], Future]]
    waiting = collections.deque()
    with ThreadPoolExecutor(1, thread_name_prefix="store") as thread:
        try:
            for group in groups:
                waiting.append((group, thread.submit(write, group)))
                while len(waiting) > _WRITES_AHEAD or waiting and waiting[0][1].done():
                    written, future = waiting.popleft()
                    future.result()
                    yield written
            while waiting:
                written, future = waiting.popleft()
                future.result()
                yield written
        finally:
            thread.shutdown(cancel_futures=True)


def _finish_together(writer: StoreWriter) -> EmbeddingStore:
    """Return the finished store; wait while other processes still write theirs."""
    while not (writer.is_finished or writer.is_complete()):
        writer.check_others()
        time.sleep(_POLL_SECONDS)
    return writer.finish()
