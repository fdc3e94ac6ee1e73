# SPDX-License-Identifier: Apache-2.0
"""Progress of a pass over rows: on stderr, only if it takes longer than a glance."""

import contextlib
import sys
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
