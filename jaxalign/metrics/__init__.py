# SPDX-License-Identifier: Apache-2.0
"""Metrics: pure functions of rows, without a map in sight."""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
