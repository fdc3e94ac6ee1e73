# SPDX-License-Identifier: Apache-2.0
"""A tiny OpenMoji that is drawn in a second: 24 emoji in place of 200."""

import pytest

from jaxalign.data import openmoji_table


def few_emoji() -> pytest.MonkeyPatch:
    """Draw fewer emoji for "openmoji/tiny" until `undo` is called."""
    patch = pytest.MonkeyPatch()
    patch.setattr(openmoji_table, "TINY_SUBGROUPS", 6)
    patch.setattr(openmoji_table, "TINY_PER_SUBGROUP", 4)
    return patch
