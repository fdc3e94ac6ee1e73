# SPDX-License-Identifier: Apache-2.0
"""Matrices from moments or rows: polar factors, Procrustes, ridge, consensus."""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
