# SPDX-License-Identifier: Apache-2.0
"""Grain's worker processes, kept in order: Ctrl-C, a killed parent, a killed worker.

Left alone, workers die of a Ctrl-C that was meant for the main process, which then
waits for them; they outlive a main process that is killed, with all they hold; and a
worker that is killed shows as an error that says nothing of memory.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import grain
from absl import flags


class WorkerDiedError(OSError):
    """A worker process ended before its work was done."""


class WorkerBatches:
    """Iterates over a dataset whose elements worker processes make, in order.

    Args:
      batches: ends in no `mp_prefetch` yet.
      num_workers: at least 1.
      ahead: elements held ready in each worker.
    """

    def __init__(self, batches: grain.IterDataset, *, num_workers: int, ahead: int):
        if not flags.FLAGS.is_parsed():
            # Grain asks its own flags for every worker; a program without absl has
            # none.
            flags.FLAGS.mark_as_parsed()
        self._batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=num_workers, per_worker_buffer_size=ahead
            ),
            worker_init_fn=_end_with_parent,
        )

    def __iter__(self) -> Iterator[Any]:
        iterator: Any = iter(self._batches)
        try:
            with _interrupts_ignored():
                batch = next(iterator, None)
            while batch is not None:
                yield batch
                batch = next(iterator, None)
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            raise WorkerDiedError(
                "a process that decodes pictures was killed, for want of memory most "
                "likely; take fewer workers (--workers) or smaller batches, and start "
                "again."
            ) from error
        finally:
            iterator.close()


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C; processes that are started meanwhile ignore it for good.

    Blocking the signal would not do: starting a process unblocks it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_parent(index: int, count: int) -> None:
    """End this worker as soon as the process that started it is gone."""
    del index, count
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
