# SPDX-License-Identifier: Apache-2.0
"""Using a map in a search: how, a prepared index, top-k, hubness offsets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
