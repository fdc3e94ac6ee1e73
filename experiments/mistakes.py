# SPDX-License-Identifier: Apache-2.0
"""Which exceptions are the user's to mend, and which are bugs.

Our own errors for users are `UserError`s, and the system's are those that refuse a
file. Whatever else is raised, in NumPy, JAX or by one of our own expressions, says
nothing without its traceback.
"""

import errno

from jaxalign.errors import UserError

_REFUSALS = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EPIPE")
    if hasattr(errno, name)
}


def is_mistake(error: Exception) -> bool:
    """Tell whether one line says all that the user needs."""
    refused = isinstance(error, OSError) and error.errno in _REFUSALS
    return refused or isinstance(error, UserError)
