# SPDX-License-Identifier: Apache-2.0
"""How far to trust a map: intervals, held-out errors and angles from moments alone."""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
