# SPDX-License-Identifier: Apache-2.0
"""Reports: tables, pages and figures of result rows."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
