# SPDX-License-Identifier: Apache-2.0
"""Metrics: pure functions of rows, without a map in sight."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
