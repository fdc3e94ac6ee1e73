# SPDX-License-Identifier: Apache-2.0
"""What the disk can refuse, told in one message with what is kept and what to do."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_FULL = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG")
    if hasattr(errno, name)
}


class FullDiskError(OSError):
    """No room for the next rows; those appended before are kept."""

    def __str__(self) -> str:
        return str(self.strerror)


@contextlib.contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Turn what the system says of a full disk into one message.

    Raises:
      FullDiskError: with the system's errno.
    """
    try:
        yield
    except FullDiskError:
        raise
    except OSError as error:
        if error.errno is None or error.errno not in _FULL:
            raise
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        raise FullDiskError(
            error.errno,
            f"the store in {str(folder)!r} cannot grow: {os.strerror(error.errno)} "
            f"({free / 1e6:,.0f} MB free there); all that was appended before is kept: "
            "make room, and start the same command again, which goes on from here.",
        ) from error


@contextlib.contextmanager
def unwritable_told(call: str, folder: Path) -> Iterator[None]:
    """Turn what the system says of a folder that cannot be written into one message.

    Raises:
      FullDiskError: if the disk is full.
      ValueError: if the folder cannot be made or written.
    """
    try:
        with full_disk_told(folder.absolute()):
            yield
    except FullDiskError:
        raise
    except OSError as error:
        raise ValueError(
            f"{call}: expected a folder that can be written, got {str(folder)!r} "
            f"({error.strerror}); name another."
        ) from error
