# SPDX-License-Identifier: Apache-2.0
"""The paper's protocol: paired sets, result rows, intervals, baselines."""

from jaxalign.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
