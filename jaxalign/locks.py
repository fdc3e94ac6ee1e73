# SPDX-License-Identifier: Apache-2.0
"""Waiting for a lock between processes, with a word to whoever waits long.

The locks are those of `filelock`: advisory `flock` locks on POSIX, which the system
drops when a process dies, and as good over a network as its file system makes them.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

_log = logging.getLogger(__name__)

_MOMENT_SECONDS = 2.0
_POLL_SECONDS = 0.02


def try_lock(path: str | os.PathLike[str]) -> BaseFileLock | None:
    """Take an exclusive lock, or say that another holds it.

    Args:
      path: the lock's file; made if missing, in a folder that exists.

    Returns:
      The lock, held until its `release()`, by any thread; None if it is held elsewhere,
      be it in this process.

    Raises:
      FileNotFoundError: if there is no such folder.
    """
    lock = _lock_at(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


@contextlib.contextmanager
def locked(
    path: str | os.PathLike[str], *, notice: str | None = None
) -> Iterator[None]:
    """Hold an exclusive lock, after waiting for whoever holds it.

    Args:
      path: the lock's file; made if missing, in a folder that exists.
      notice: logged as a warning if there is something to wait for, for longer than a
        moment.

    Raises:
      FileNotFoundError: if there is no such folder.
    """
    lock = _lock_at(path)
    try:
        lock.acquire(timeout=_MOMENT_SECONDS, poll_interval=_POLL_SECONDS)
    except Timeout:
        if notice is not None:
            _log.warning("%s", notice)
        lock.acquire(poll_interval=_POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _lock_at(path: str | os.PathLike[str]) -> BaseFileLock:
    """Return a lock that is not held yet, and that threads may hand over."""
    # `filelock` would make the folder: that of a store which another process has just
    # finished must stay deleted.
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(os.fspath(path))
    return FileLock(os.fspath(path), thread_local=False)
