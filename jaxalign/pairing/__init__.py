# SPDX-License-Identifier: Apache-2.0
"""Where the wings meet: paired rows of what two models make of one data set."""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
