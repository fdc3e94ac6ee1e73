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
from jaxalign.embedding.shares import ALONE, Share, merge_ranges
from jaxalign.embedding.stream import embed
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.partition import Partition
from jaxalign.errors import ArgumentError
from jaxalign.store.reader import EmbeddingStore
from jaxalign.store.writer import StoreWriter

LARGEST_PART = 65536
"""Examples of a part, at most, by default."""

LEAST_PARTS = 64
"""Parts of a store, at least, by default: so that many processes have work."""

MOST_UNREADABLE_IN_A_ROW = 100
"""More pictures in a row that cannot be read end a run: a folder is missing, say."""

_WRITES_AHEAD = 4
_POLL_SECONDS = 1.0
_LONGEST_POLL_SECONDS = 4.0


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress of this process's share.

    Attributes:
      examples: embedded now or before, unreadable ones among them.
      unreadable: of those embedded now.
      share: examples that this process is to embed.
    """

    examples: int
    unreadable: int
    share: int

    def after(self, batch: EmbeddingBatch) -> "Progress":
        """Count one more batch."""
        real = batch.index >= 0
        return dataclasses.replace(
            self,
            examples=self.examples + int(real.sum()),
            unreadable=self.unreadable + int((real & ~batch.mask).sum()),
        )


def embed_into_stores(
    source: CataloguedSource,
    encoders: Mapping[str, Encoders],
    folder: str | os.PathLike[str],
    *,
    batch_size: int = 128,
    examples: int | None = None,
    part_examples: int | None = None,
    class_captions: Sequence[str] | None = None,
    class_names: Sequence[str] = (),
    dtype: Literal["float32", "float16"] = "float32",
    details: Mapping[str, Any] = {},
    strict: bool = False,
    most_unreadable_in_a_row: int | None = MOST_UNREADABLE_IN_A_ROW,
    num_threads: int = 1,
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
      class_names: `DatasetInfo.class_names`, to be stored beside the labels.
      dtype: of the rows on disk.
      details: JSON values that say where the rows come from; a store is gone on only
        with the same.
      strict: raise over a picture that cannot be read, instead of leaving it out.
      most_unreadable_in_a_row: raise over more, before they are left out for good;
        None for any number.
      num_threads: threads that decode and preprocess ahead, here or in each worker.
      num_workers: processes that do; 0 for threads of this one.
      mesh: over this process's devices; the default device without one.
      partition: see `embed`.
      share: which of several processes this is.
      report: called with the progress, first at the start, then after each batch is
        on disk.

    Returns:
      The finished stores. A process whose share is done waits for the others; whoever
      finds all parts written writes the manifest.

    Raises:
      ValueError: if a store holds other rows or is being written by another run; if a
        picture cannot be read and `strict` is set, or too many cannot, or none can; or
        see `embed`.
      FullDiskError: if there is no room.
      OtherProcessError: if another process of this run ended with an error. What was
        written is kept in every case.
    """
    count = min(len(source), examples or len(source))
    wanted = part_examples or min(LARGEST_PART, -(-count // LEAST_PARTS))
    part = -(-wanted // batch_size) * batch_size
    own = share.examples(count, part)
    known = {
        "examples_fingerprint": source.fingerprint,
        "batch_size": batch_size,
        **details,
    }
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
                        "model": short_name(model.name),
                        "model_dtype": model.dtype,
                        **known,
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
        # A model whose store misses nothing need not be run again.
        behind = {name: model for name, model in encoders.items() if missing[name]}
        if behind:
            models = tuple(behind.values())
            batches = embedding_batches(
                source,
                models,
                batch_size=batch_size,
                examples=left,
                with_texts=class_captions is None,
                strict=strict,
                num_threads=num_threads,
                num_workers=num_workers,
            )
            groups = fetch(embed(models, batches, mesh=mesh, partition=partition))
            class_rows = _class_rows(behind, class_captions)

            def write(group: tuple[EmbeddingBatch, ...]) -> None:
                for name, batch in zip(behind, group, strict=True):
                    append_batch(
                        writers[name],
                        batch,
                        missing[name],
                        class_rows=class_rows.get(name),
                        class_names=class_names,
                    )

            next_check = 0.0
            for group in _write_behind(
                check_gaps(groups, most_unreadable_in_a_row), write
            ):
                progress = progress.after(group[0])
                report(progress)
                if share.count > 1 and time.monotonic() > next_check:
                    for writer in writers.values():
                        writer.check_others()
                    next_check = time.monotonic() + _POLL_SECONDS
            # JAX lets go of arrays that it was handed when garbage is collected; the
            # last ones, shared with workers, would else be found unowned at the end.
            gc.collect()
        stores = {name: _finish_together(writer) for name, writer in writers.items()}
    for store in stores.values():
        _check_rows(store, strict=strict)
    return stores


def check_gaps(
    groups: Iterable[tuple[EmbeddingBatch, ...]], longest: int | None
) -> Iterator[tuple[EmbeddingBatch, ...]]:
    """Pass batches on until too many pictures in a row cannot be read.

    What is left out is left out for good, and a folder that is not there yet is not
    the pictures' fault.

    Raises:
      ValueError: before the batch in which a gap of unreadable pictures passes
        `longest` is passed on.
    """
    gap = 0
    for group in groups:
        batch = group[0]
        for row in np.flatnonzero(batch.index >= 0):
            gap = 0 if batch.mask[row] else gap + 1
            if longest is not None and gap > longest:
                raise ArgumentError(
                    f"embed_into_stores(most_unreadable_in_a_row={longest})",
                    "pictures",
                    "more in a row that cannot be read, the last "
                    f"{str(batch.ids[row])!r} ({batch.problems[row]})",
                    "see that the data is all there, or allow more",
                )
        yield group


def short_name(name: str) -> str:
    """Name a model or data set without the place where it lies on this machine.

    >>> short_name("openmoji/tiny"), short_name("no/such/folder")
    ('openmoji/tiny', 'no/such/folder')
    """
    path = Path(os.path.expanduser(name))
    return path.resolve().name if path.exists() or ".tar" in name else name


def _class_rows(
    encoders: Mapping[str, Encoders], class_captions: Sequence[str] | None
) -> dict[str, Float[np.ndarray, "classes d"]]:
    """Embed the captions of classes, if classes have them, and "" after them."""
    if class_captions is None:
        return {}
    # The last row is for the label -1: examples without a class.
    captions = [*class_captions, ""]
    return {name: model.embed_texts(captions) for name, model in encoders.items()}


def append_batch(
    writer: StoreWriter,
    batch: EmbeddingBatch,
    missing: Sequence[range],
    *,
    class_rows: Float[np.ndarray, "classes d"] | None = None,
    class_names: Sequence[str] = (),
) -> None:
    """Append a batch to a store that misses it; leave out what cannot be read.

    Args:
      writer: of the store.
      batch: rows on the host.
      missing: the examples that the store misses; other batches are passed over.
      class_rows: text rows by label, instead of the batch's own.
      class_names: by label, to be stored beside it.
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
            "image_path": batch.paths[kept].tolist(),
            "caption": batch.captions[kept].tolist(),
            "label": labels.tolist(),
            "class_name": [
                class_names[label] if 0 <= label < len(class_names) else ""
                for label in labels
            ],
        },
        skipped=[
            (str(batch.ids[row]), str(batch.problems[row]))
            for row in np.flatnonzero(real & ~kept)
        ],
    )


def _write_behind(
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
    pause = _POLL_SECONDS
    while not (writer.is_finished or writer.is_complete()):
        writer.check_others()
        time.sleep(pause)
        # Many processes that wait would ask a file system a lot.
        pause = min(1.3 * pause, _LONGEST_POLL_SECONDS)
    return writer.finish()


def _check_rows(store: EmbeddingStore, *, strict: bool) -> None:
    """Raise if no picture could be read, or under `strict` not all."""
    if len(store) and not (strict and store.skipped):
        return
    wanted = "no picture left out" if len(store) else "at least one row"
    raise ArgumentError(
        "embed_into_stores(folder=...)",
        f"{wanted} in {str(store.folder)!r}",
        f"{len(store.skipped)} of {store.examples} pictures that cannot be read (the "
        f"first: {store.skipped[0][1]})",
        "mend them, delete that folder, and start again",
    )
