# SPDX-License-Identifier: Apache-2.0
"""Centred second moments of paired rows: the statistics every closed form needs."""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
