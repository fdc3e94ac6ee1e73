# SPDX-License-Identifier: Apache-2.0
"""Paired rows as a stream: from arrays, from stores, or straight from two models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
