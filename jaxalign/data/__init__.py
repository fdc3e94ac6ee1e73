# SPDX-License-Identifier: Apache-2.0
"""Data sets of pictures with captions, and planted ones."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
