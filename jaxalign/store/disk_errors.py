# SPDX-License-Identifier: Apache-2.0
"""Errors of the disk, in one message: what failed, what is kept and what to do."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxalign.errors import ArgumentError, UserError

_FULL = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG")
    if hasattr(errno, name)
}


class FullDiskError(UserError, OSError):
    """No room for the next rows; those appended before are kept."""

    def __str__(self) -> str:
        return str(self.strerror)


@contextlib.contextmanager
def explain_full_disk(folder: Path, what: str | None = None) -> Iterator[None]:
    """Turn the system's error of a full disk into one message.

    Args:
      folder: what is being written to.
      what: names it in the message; the store in the folder without it.

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
        what = what or f"the store in {str(folder)!r}"
        raise FullDiskError(
            error.errno,
            f"{what} cannot grow: {os.strerror(error.errno)} "
            f"({free / 1e6:,.0f} MB free there); all that was appended before is kept: "
            "make room, and start the same command again: it resumes.",
        ) from error


@contextlib.contextmanager
def explain_unwritable(call: str, folder: Path) -> Iterator[None]:
    """Turn the system's error of an unwritable folder into one message.

    Raises:
      FullDiskError: if the disk is full.
      ValueError: if the folder cannot be made or written.
    """
    try:
        with explain_full_disk(folder.absolute()):
            yield
    except FullDiskError:
        raise
    except OSError as error:
        got = f"{str(folder)!r} ({error.strerror})"
        raise ArgumentError(
            call, "a folder that can be written", got, "name another"
        ) from error
