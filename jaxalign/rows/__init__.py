# SPDX-License-Identifier: Apache-2.0
"""Rows wherever they live: one interface, and one file for each format.

It knows no encoder, no data set and no JAX. `fsspec` and `pyarrow` are imported where a
reference needs them; local `.npy`, `.npz` and `.safetensors` files need neither.
"""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
