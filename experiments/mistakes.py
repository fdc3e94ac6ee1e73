# SPDX-License-Identifier: Apache-2.0
"""Which exceptions are the user's to mend, and which are bugs.

Our own errors for users are `UserError`s, and the system's are those that refuse a
file. Whatever else is raised, in NumPy, JAX or by one of our own expressions, says
nothing without its traceback.
"""

import errno
import linecache
import traceback
from pathlib import Path

import jaxalign
from jaxalign.errors import UserError

_REFUSALS = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EPIPE")
    if hasattr(errno, name)
}


def is_mistake(error: Exception) -> bool:
    """Tell whether one line says all that the user needs."""
    refused = isinstance(error, OSError) and error.errno in _REFUSALS
    return refused or isinstance(error, UserError) or _is_raised_by_us(error)


_OWN_FOLDERS = (str(Path(jaxalign.__file__).parent), str(Path(__file__).parent))


def _is_raised_by_us(error: Exception) -> bool:
    """Tell whether an error comes from one of our own `raise` statements.

    To be deleted, with `_OWN_FOLDERS`, once all of these raise a `UserError`.
    """
    if not isinstance(error, ValueError | ModuleNotFoundError | OSError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not frames[-1].filename.startswith(_OWN_FOLDERS):
        return False
    # Builtins such as `int` have no frame: the line may as well be `int(text)`.
    line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0)
    return line.lstrip().startswith("raise ")
