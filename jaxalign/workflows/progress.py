# SPDX-License-Identifier: Apache-2.0
"""Progress of a pass over rows: on stderr, only if it takes longer than a glance."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

from tqdm import tqdm

# Seconds before a bar appears.
DELAY = 2.0


@contextlib.contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr for what takes more than two seconds.

    Args:
      title: what is done.
      total: when it is done.
      unit: what is counted, such as "rows".

    Yields:
      A function that is told how much is done so far.
    """
    with tqdm(
        desc=title,
        total=total,
        unit=f" {unit}",
        unit_scale=True,
        delay=DELAY,
        file=sys.stderr,
    ) as bar:

        def report(done: int) -> None:
            bar.update(done - bar.n)

        yield report


@contextlib.contextmanager
def working(title: str) -> Iterator[None]:
    """Say on stderr what is done, if it takes more than two seconds.

    For a step that cannot tell how far it is.
    """
    timer = threading.Timer(DELAY, sys.stderr.write, [f"{title} ...\n"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
