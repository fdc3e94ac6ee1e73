# SPDX-License-Identifier: Apache-2.0
"""Batches in the data's own order, read ahead by Grain, from which embedding streams.

Where the training pipeline shuffles and repeats, this one can start anywhere and read
any ranges, so that what an interrupted run still misses comes in the batches that an
undisturbed run would have had. A picture that cannot be read keeps its place: a black
one stands in, masked, and says why.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grain
import numpy as np

from jaxalign.data.examples import Source, check_not_empty, stack_examples
from jaxalign.data.pictures import UnreadablePictureError
from jaxalign.data.workers import WorkerBatches
from jaxalign.errors import ArgumentError, check_count

_LEAST_SHARED_BYTES = 1 << 16

Collate = Callable[[list[dict[str, Any]]], dict[str, Any]]


def ordered_batches(
    source: Source,
    *,
    batch_size: int,
    collate: Collate | None = None,
    examples: Sequence[range] | None = None,
    strict: bool = False,
    num_threads: int = 1,
    num_workers: int = 0,
    prefetch: int = 2,
) -> Iterable[Any]:
    """Make batches of a source of examples, in order.

    Args:
      source: random access to example dicts, such as `load_dataset` returns.
      batch_size: rows of every batch; the last of a range is filled up.
      collate: makes a batch from a list of `batch_size` examples, in a thread or a
        worker process, so picklable if there are workers; `stack_examples` by default.
        To the examples' own keys come `index` (int, the example's number; -1 for what
        fills up), `mask` (False on what fills up and on unreadable pictures) and
        `problem` (str, why a picture cannot be read, else empty).
      examples: ranges of example numbers, step 1; all by default. No batch runs across
        the end of a range.
      strict: raise over a picture that cannot be read, instead of masking it.
      num_threads: threads that make batches ahead, in this process or in each worker.
      num_workers: worker processes; 0 for none. Worth their start (seconds) where
        decoding keeps more than one core busy. A script that uses them needs the
        `if __name__ == "__main__":` guard. Any number gives the same batches.
      prefetch: batches held ready, in each worker.

    Returns:
      What `collate` returns, batch by batch; a Grain dataset if there are no workers.

    Raises:
      ValueError: if a size or a range is out of range.
      WorkerDiedError: while iterating, if a worker is killed.

    Notes:
      Memory: `prefetch + num_threads` batches a worker, whatever the source's length.
    """
    chosen = [range(len(source))] if examples is None else list(examples)
    check_not_empty("ordered_batches", source)
    larger = "larger batches need more memory, and change no row"
    check_count("ordered_batches", "batch_size", batch_size, remedy=larger)
    for part in chosen:
        if part.step != 1 or not 0 <= part.start <= part.stop <= len(source):
            expected = f"ranges of step 1 within range({len(source)})"
            remedy = "pass ranges of example numbers"
            raise ArgumentError("ordered_batches(examples=...)", expected, part, remedy)
    batches = grain.MapDataset.source(
        _BatchSource(source, batch_size, chosen, strict=strict)
    ).map(collate or functools.partial(stack_examples, call="ordered_batches"))
    ahead = batches.to_iter_dataset(
        grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch)
    )
    if not num_workers:
        return ahead
    # Pixels pass in shared memory; what is small is sooner copied.
    options = grain.experimental.DatasetOptions(min_shm_size=_LEAST_SHARED_BYTES)
    return WorkerBatches(
        grain.experimental.WithOptionsIterDataset(ahead, options),
        num_workers=num_workers,
        ahead=prefetch,
    )


class _BatchSource:
    """Element i is the list of the i-th batch's examples."""

    def __init__(
        self,
        source: Source,
        batch_size: int,
        examples: Sequence[range],
        *,
        strict: bool,
    ):
        self._source = source
        self._batch_size = batch_size
        self._examples = examples
        self._strict = strict
        counts = [-(-len(part) // batch_size) for part in examples]
        self._ends = np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> list[dict[str, Any]]:
        part = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[part - 1]) if part else 0
        start = (index - before) * self._batch_size
        rows = [
            self._read(number)
            for number in self._examples[part][start : start + self._batch_size]
        ]
        filling = {**rows[-1], "mask": False, "index": -1, "problem": ""}
        return rows + [filling] * (self._batch_size - len(rows))

    def _read(self, number: int) -> dict[str, Any]:
        try:
            example = self._source[number]
            return {**example, "index": number, "mask": True, "problem": ""}
        except UnreadablePictureError as error:
            if self._strict:
                raise
            return {
                "image": np.zeros((1, 1, 3), np.uint8),
                "text": "",
                "label": -1,
                "id": error.id,
                "index": number,
                "mask": False,
                "problem": error.reason,
            }
