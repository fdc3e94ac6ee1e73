# SPDX-License-Identifier: Apache-2.0
"""Two tiny models for all tests of this folder: their programs are compiled once."""

import pytest

from jaxalign.encoders.pretrained import load_encoders
from tests import tiny_encoders


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    return tuple(
        load_encoders(tiny_encoders.write_folder(root / family, family))
        for family in tiny_encoders.WRITTEN
    )
