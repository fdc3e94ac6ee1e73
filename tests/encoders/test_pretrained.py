# SPDX-License-Identifier: Apache-2.0
"""Names and dtypes that load, and those that are refused."""

import pytest

from jaxalign.encoders.hub import SHIPPED
from jaxalign.encoders.pretrained import load_encoders


@pytest.mark.usefixtures("no_shape_hook")
def test_other_dtypes_are_refused(folders):
    for dtype in ("float16", "int32", "x", None):
        with pytest.raises(ValueError, match=f"dtype={dtype!r}"):
            load_encoders(folders["clip"], dtype=dtype)


def test_unknown_names_are_refused_with_the_known_ones(tmp_path):
    for name in ("jaxalign/openmoji", tmp_path / "no"):
        with pytest.raises(ValueError, match="name=") as caught:
            load_encoders(name)
        assert all(shipped in str(caught.value) for shipped in SHIPPED)
    with pytest.raises(ValueError, match="name=.*config.json"):
        load_encoders(tmp_path)


def test_folders_are_taken_as_strings_and_paths(folders, loaded):
    for folder in (folders["clip"], str(folders["clip"])):
        encoders = load_encoders(folder)
        assert encoders.space == loaded["clip"].space
        assert encoders.name == str(folder)
