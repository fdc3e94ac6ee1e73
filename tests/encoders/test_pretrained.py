# SPDX-License-Identifier: Apache-2.0
"""Names and dtypes that load, and those that are refused."""

import pytest

from jaxalign.encoders.hub import SHIPPED
from jaxalign.encoders.pretrained import load_encoders


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize("dtype", ["float16", "int32", "x", None])
def test_other_dtypes_are_refused(folder, dtype):
    with pytest.raises(ValueError, match="'bfloat16'.*, got .*leave it out"):
        load_encoders(folder, dtype=dtype)


def test_unknown_names_are_refused_with_the_known_ones(tmp_path):
    for name in ("jaxalign/openmoji", tmp_path / "no"):
        with pytest.raises(ValueError, match="or a repository of the hub") as caught:
            load_encoders(name)
        assert all(shipped in str(caught.value) for shipped in SHIPPED)
    with pytest.raises(ValueError, match="pass the folder that `save_pretrained`"):
        load_encoders(tmp_path)


def test_folders_are_taken_as_strings_and_paths(folder):
    assert load_encoders(str(folder)).space == load_encoders(folder).space
