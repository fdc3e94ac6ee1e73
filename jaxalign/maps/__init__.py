# SPDX-License-Identifier: Apache-2.0
"""Maps of rows: how they are fitted, applied, composed, carried and stored."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
