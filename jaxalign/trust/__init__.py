# SPDX-License-Identifier: Apache-2.0
"""How far to trust a map: intervals, held-out errors and angles from moments alone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
