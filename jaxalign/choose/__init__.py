# SPDX-License-Identifier: Apache-2.0
"""Choosing family, strength, fit modality and use on held-out anchors."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
