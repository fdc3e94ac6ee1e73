# SPDX-License-Identifier: Apache-2.0
"""The paper's protocol: paired sets, result rows, intervals, baselines."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
