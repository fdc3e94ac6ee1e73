# SPDX-License-Identifier: Apache-2.0
"""Image and text encoders in Flax NNX, and their checkpoints."""

import contextlib

from jaxalign.encoders.quiet import quiet_transformers
from jaxalign.extras import attach

with contextlib.suppress(ModuleNotFoundError), quiet_transformers():
    # This submodule imports transformers a second time, notice included. Without
    # transformers, each public name says what to install.
    import transformers.processing_utils as _processing_utils  # noqa: F401

__getattr__, __dir__, __all__ = attach(__name__, __file__)
