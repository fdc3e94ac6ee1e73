# SPDX-License-Identifier: Apache-2.0
"""Silence for `transformers`, which announces that it found no torch.

jaxalign uses its configs, tokenizers and Pillow processors, none of which need torch.
"""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back log records below errors while the context is open."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
