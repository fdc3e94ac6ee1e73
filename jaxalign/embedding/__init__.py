# SPDX-License-Identifier: Apache-2.0
"""Pictures and texts to rows: streamed through encoders, on one device or many."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
