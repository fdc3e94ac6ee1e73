# SPDX-License-Identifier: Apache-2.0
"""Image and text encoders in Flax NNX, and their checkpoints."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
