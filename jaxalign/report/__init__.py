# SPDX-License-Identifier: Apache-2.0
"""Reports: tables, pages and figures of result rows."""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
