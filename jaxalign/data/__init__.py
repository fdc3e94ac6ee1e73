# SPDX-License-Identifier: Apache-2.0
"""Data sets of pictures with captions, and planted ones."""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
