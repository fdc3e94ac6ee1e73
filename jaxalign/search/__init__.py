# SPDX-License-Identifier: Apache-2.0
"""Using a map in a search: how, a prepared index, top-k, hubness offsets."""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
