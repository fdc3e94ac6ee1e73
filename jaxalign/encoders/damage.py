# SPDX-License-Identifier: Apache-2.0
"""The one error over a checkpoint's files that are missing, damaged or do not fit."""

import os
from typing import Any

from jaxalign.errors import ArgumentError
from jaxalign.lfs import POINTER, REMEDY, is_lfs_pointer


def damaged(
    path: str | os.PathLike,
    expected: str,
    got: Any = None,
    remedy: str = "download the checkpoint again",
) -> ArgumentError:
    """Make the error over a file or folder of a checkpoint.

    A file that is a Git LFS pointer is called so, whatever it was taken for.
    """
    if is_lfs_pointer(path):
        got, remedy = POINTER, REMEDY
    where = f"{expected} in {os.fspath(path)!r}"
    return ArgumentError("load_encoders(name=...)", where, got, remedy)
