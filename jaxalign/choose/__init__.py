# SPDX-License-Identifier: Apache-2.0
"""Choosing family, strength, fit modality and use on held-out anchors."""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
