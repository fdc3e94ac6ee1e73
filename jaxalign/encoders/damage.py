# SPDX-License-Identifier: Apache-2.0
"""The one error over a checkpoint's files that are missing, damaged or do not fit."""

import os
from typing import Any

from jaxalign.errors import ArgumentError


def damaged(
    path: str | os.PathLike,
    expected: str,
    got: Any = None,
    remedy: str = "download the checkpoint again",
) -> ArgumentError:
    """Make the error over a file or folder of a checkpoint."""
    where = f"{expected} in {os.fspath(path)!r}"
    return ArgumentError("load_encoders(name=...)", where, got, remedy)
