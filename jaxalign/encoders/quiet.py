# SPDX-License-Identifier: Apache-2.0
"""Silence for `transformers`, which announces that it found no torch.

jaxalign uses its configs, tokenizers and Pillow processors, none of which need torch.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator

_LIBRARY = "transformers"


class _QuietThreads(logging.Filter):
    """Drops the library's records below errors that come from a quiet thread."""

    def __init__(self) -> None:
        super().__init__()
        self.depths = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        of_library = record.name.partition(".")[0] == _LIBRARY
        # A record is filtered in the thread that made it.
        is_quiet = of_library and getattr(self.depths, "depth", 0) > 0
        return not is_quiet or record.levelno >= logging.ERROR


_filter = _QuietThreads()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back the warnings of `transformers` in this thread.

    No level or other logger is changed, so there is nothing to restore: the filter
    stays, and passes every record once the context is left.
    """
    library = logging.getLogger(_LIBRARY)
    # A logger's filter sees its own records, a handler's those of modules below it.
    for place in (library, *library.handlers):
        place.addFilter(_filter)  # adds it once
    depths = _filter.depths
    depths.depth = getattr(depths, "depth", 0) + 1
    try:
        yield
    finally:
        depths.depth -= 1
