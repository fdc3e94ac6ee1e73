# SPDX-License-Identifier: Apache-2.0
"""Where the wings meet: paired rows of what two models make of one data set."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
