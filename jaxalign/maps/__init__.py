# SPDX-License-Identifier: Apache-2.0
"""Maps of rows: how they are fitted, applied, composed, carried and stored."""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
