# SPDX-License-Identifier: Apache-2.0
"""Families of maps: each a frozen object with its options and its own fit, in one file.

A new family is a new file and a line here.
"""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
