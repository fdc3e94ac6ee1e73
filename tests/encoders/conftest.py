# SPDX-License-Identifier: Apache-2.0
"""Tiny checkpoint folders, written once for all tests of this folder."""

import pytest

from tests import tiny_encoders

# Scripts that need torch; the doctest collector would import them.
collect_ignore = ["make_goldens.py", "make_open_clip_goldens.py"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A whole checkpoint folder of each family: weights, pictures' settings, texts'."""
    root = tmp_path_factory.mktemp("encoders")
    return {
        family: tiny_encoders.write_folder(root / family, family)
        for family in tiny_encoders.FAMILIES
    }


@pytest.fixture(params=tiny_encoders.FAMILIES)
def folder(request, folders):
    """Each family's folder in turn; tests that change one copy it first."""
    return folders[request.param]
