# SPDX-License-Identifier: Apache-2.0
"""Where results go: validated before any work is done, so that none is lost."""

import os
import tempfile
from pathlib import Path

from jaxalign.errors import ArgumentError


def open_folder(path: str | os.PathLike[str], flag: str) -> Path:
    """Make a folder for results and see that it can be written.

    Args:
      path: of the folder; "~" is the user's home.
      flag: that named it, for errors.

    Raises:
      ValueError: if it cannot be made or written.
    """
    folder = Path(os.path.expanduser(path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        got = f"{str(folder)!r} ({error.strerror})"
        raise ArgumentError(
            flag, "a folder that can be written", got, "name another"
        ) from error
    return folder


def check_new_file(
    path: str | os.PathLike[str],
    flag: str,
    *,
    suffix: str | None = None,
    overwrite: bool = False,
) -> Path:
    """See that a file can be written, and does not exist unless it may be replaced.

    Args:
      path: of the file; its folder may be missing, and is not made yet.
      flag: that named it, for errors.
      suffix: that it must have.
      overwrite: whether an older file may be replaced.

    Raises:
      ValueError: if it has another suffix, exists, or its folder cannot be written.
    """
    file = Path(os.path.expanduser(path))
    if suffix is not None and file.suffix != suffix:
        expected, remedy = f"a name ending in {suffix!r}", f"write {file.name}{suffix}"
        raise ArgumentError(flag, expected, repr(str(path)), remedy)
    if file.is_dir() or (file.exists() and not overwrite):
        got = f"{str(path)!r}, which exists"
        raise ArgumentError(flag, "a new file", got, "name another, or --overwrite")
    folder = file.absolute().parent
    while not folder.exists():
        folder = folder.parent
    open_folder(folder, flag)
    return file
