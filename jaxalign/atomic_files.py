# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all: written under another name, then renamed.

A reader, or a run that starts after a kill or a power cut, sees the old file or the
new one, never a part of it.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write_atomically(
    path: str | os.PathLike[str],
    contents: str | bytes,
    *,
    temporary_folder: str | os.PathLike[str] | None = None,
) -> None:
    """Write a whole file at once; see `open_atomically`.

    Args:
      path: the file; missing folders are made, an older file is replaced.
      contents: bytes, or text, which is written as UTF-8.
      temporary_folder: see `open_atomically`.
    """
    data = contents.encode("utf-8") if isinstance(contents, str) else contents
    with open_atomically(path, temporary_folder=temporary_folder) as stream:
        stream.write(data)


@contextlib.contextmanager
def open_atomically(
    path: str | os.PathLike[str],
    *,
    temporary_folder: str | os.PathLike[str] | None = None,
) -> Iterator[BinaryIO]:
    """Open a file to be written in pieces, which takes its name when the block ends.

    The bytes are on the disk before the name is, and the name is before this returns.
    If the block raises, nothing is left and an older file stays as it was. A kill
    leaves a file named ``.*.tmp``, which nothing reads.

    Args:
      path: the file; missing folders are made, an older file is replaced.
      temporary_folder: where to write meanwhile, an existing folder of the same file
        system; beside `path` without it.

    Yields:
      A binary stream.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.parent if temporary_folder is None else Path(temporary_folder)
    temporary = folder / f".{target.name}.{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows does not open folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
