# SPDX-License-Identifier: Apache-2.0
"""Pictures and texts to rows: streamed through encoders, on one device or many."""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
