# SPDX-License-Identifier: Apache-2.0
"""Git LFS pointers: short texts that stand for files that were not downloaded."""

import os
from pathlib import Path

_BEGINNING = b"version https://git-lfs.github.com/spec"

POINTER = "a Git LFS pointer, which stands for a file that was not downloaded"
REMEDY = "run `git lfs pull` in the folder of the repository"


def is_lfs_pointer(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a pointer; False if there is no such file."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_BEGINNING)) == _BEGINNING
    except OSError:
        return False
