# SPDX-License-Identifier: Apache-2.0
"""Centred second moments of paired rows: the statistics every closed form needs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
