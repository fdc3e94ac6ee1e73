# SPDX-License-Identifier: Apache-2.0
"""Image and text encoders in Flax NNX, and their checkpoints."""

import lazy_loader

from jaxalign.encoders.quiet import quiet_transformers

with quiet_transformers():
    # This submodule imports transformers a second time, notice included.
    import transformers.processing_utils as _processing_utils  # noqa: F401

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
