# SPDX-License-Identifier: Apache-2.0
"""How many processors there are for this process."""

import os


def cpu_count() -> int:
    """Count the processors that this process may use.

    A scheduler often grants fewer than the machine has.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
