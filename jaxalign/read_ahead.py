# SPDX-License-Identifier: Apache-2.0
"""Bringing the next rows from the disk while the last are at work.

Memory-mapped rows are read where they are first touched, in the midst of a product. A
thread that touches one byte of each page beforehand lets the disk and the processor
work at once, in constant memory.
"""

import concurrent.futures
from collections.abc import Callable
from typing import Any

import numpy as np

_PAGE = 4096


class ReadAhead:
    """Touches rows in a thread of its own, one request at a time."""

    def __init__(self) -> None:
        self._thread: concurrent.futures.ThreadPoolExecutor | None = None
        self._pending: concurrent.futures.Future[None] | None = None

    def start(self, read: Callable[[], None]) -> None:
        """Begin to read, unless the last request still does."""
        if self._pending is not None and not self._pending.done():
            return
        if self._thread is None:
            self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._pending = self._thread.submit(read)

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None


def touch(rows: Any) -> None:
    """Read one byte of each page of memory-mapped rows; others are there already."""
    if not is_mapped(rows) or not rows.flags.c_contiguous:
        return
    flat = rows.reshape(-1).view(np.uint8)
    np.add.reduce(flat[::_PAGE], dtype=np.int64)


def is_mapped(rows: Any) -> bool:
    """Tell whether an array lies in a file."""
    return isinstance(rows, np.memmap)
