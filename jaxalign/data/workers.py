# SPDX-License-Identifier: Apache-2.0
"""Grain's worker processes, kept in order: Ctrl-C, a killed parent, a killed worker.

Left alone, workers die of a Ctrl-C that was meant for the main process, which then
waits for them; they outlive a main process that is killed, with all they hold; a worker
that is killed shows as an error that does not mention memory; and a script without a
main guard shows as a page of tracebacks.
"""

import contextlib
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any

import grain
from absl import flags

from jaxalign.errors import UserError

# Exit code of a worker that runs an unguarded script; no other program's convention.
_NO_MAIN_GUARD = 86
_PROFILING_FLAG = "grain_enable_multiprocess_worker_profiling"
_flags_lock = threading.Lock()


class WorkerDiedError(UserError, OSError):
    """A worker process ended before its work was done."""


class WorkerBatches:
    """Iterates over a dataset whose elements worker processes make, in order.

    Args:
      batches: ends in no `mp_prefetch` yet.
      num_workers: at least 1.
      ahead: elements held ready in each worker.
    """

    def __init__(self, batches: grain.IterDataset, *, num_workers: int, ahead: int):
        self._batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=num_workers, per_worker_buffer_size=ahead
            ),
            worker_init_fn=_end_with_parent,
        )

    def __iter__(self) -> Iterator[Any]:
        _end_if_main_is_imported()
        with _readable_flag():
            iterator: Any = iter(self._batches)
            try:
                with _interrupts_ignored():
                    batch = next(iterator, None)
                while batch is not None:
                    yield batch
                    batch = next(iterator, None)
            except RuntimeError as error:
                died = re.search(r"terminated unexpectedly.*code (-?\d+)", str(error))
                if died is None:
                    raise
                raise WorkerDiedError(_explain(int(died[1]))) from None
            finally:
                iterator.close()


def _explain(exit_code: int) -> str:
    """Say why a worker ended; a negative code is the signal that killed it."""
    if exit_code == _NO_MAIN_GUARD:
        return (
            "a worker process ran this script from its top, as each worker does when "
            "it imports the main module, and asked for workers itself; put the "
            'script\'s work under `if __name__ == "__main__":`, or pass num_workers=0.'
        )
    if exit_code < 0:
        return (
            "a process that decodes pictures was killed by signal "
            f"{-exit_code}, for want of memory most likely; take fewer workers "
            "(--workers) or smaller batches, and start again."
        )
    return (
        f"a process that decodes pictures ended with exit code {exit_code}; its own "
        "message is above. Each worker imports the main module: put a script's work "
        'under `if __name__ == "__main__":`, or pass num_workers=0.'
    )


def _end_if_main_is_imported() -> None:
    """End this process if it is a worker that is still importing the main module.

    It could start no workers of its own: `multiprocessing` raises, in this process,
    with a traceback that buries the reason. The parent says it by the exit code.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(_NO_MAIN_GUARD)


@contextlib.contextmanager
def _readable_flag() -> Iterator[None]:
    """Let Grain read its one flag in a program that has parsed none.

    absl lets a flag be read once it is present. The flags of the program are left
    alone: to mark them all as parsed would hide from absl that they are not.
    """
    if flags.FLAGS.is_parsed() or _PROFILING_FLAG not in flags.FLAGS:
        yield
        return
    flag = flags.FLAGS[_PROFILING_FLAG]
    with _flags_lock:
        flag.present += 1
    try:
        yield
    finally:
        with _flags_lock:
            # Zero if the program has cleared its flags meanwhile.
            flag.present = max(flag.present - 1, 0)


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
