# SPDX-License-Identifier: Apache-2.0
"""Paired rows as a stream: from arrays, from stores, or straight from two models."""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
