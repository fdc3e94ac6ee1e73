# SPDX-License-Identifier: Apache-2.0
"""Rows on disk: the yard between the wing that makes them and the one that uses them.

It knows no encoder, no data set and no JAX: NumPy and pyarrow are enough to read it.
"""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
