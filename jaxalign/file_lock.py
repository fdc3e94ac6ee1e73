# SPDX-License-Identifier: Apache-2.0
"""Locks between processes, held on a file; the system drops them if a process dies.

They are `flock` locks: advisory, and as good over a network as its file system makes
them. Outside POSIX there are none, and every lock is granted.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from absl import logging

try:
    import fcntl
except ModuleNotFoundError:  # no such locks outside POSIX
    fcntl = None

_MOMENT_SECONDS = 2.0


def try_lock(path: str | os.PathLike[str]) -> IO | None:
    """Take an exclusive lock, or say that another holds it.

    Args:
      path: the lock's file; made if missing, in a folder that exists.

    Returns:
      The open file, which holds the lock until it is closed; None if it is held
      elsewhere, be it in this process.
    """
    # Opened for writing, which some network file systems ask of an exclusive lock.
    lock = Path(path).open("a")  # noqa: SIM115
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    except BaseException:
        lock.close()
        raise
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
    """
    lock = try_lock(path)
    if lock is None and notice is not None:
        patience = time.monotonic() + _MOMENT_SECONDS
        while lock is None and time.monotonic() < patience:
            time.sleep(0.02)
            lock = try_lock(path)
        if lock is None:
            logging.warning("%s", notice)
    if lock is None:
        lock = Path(path).open("a")  # noqa: SIM115
    with lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
