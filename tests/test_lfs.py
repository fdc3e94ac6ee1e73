# SPDX-License-Identifier: Apache-2.0
"""Git LFS pointers are called so, in whichever place of a file."""

import shutil

import pytest

import jaxalign as ja
from jaxalign.lfs import is_lfs_pointer
from tests import tiny_encoders

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"


def test_what_is_one(tmp_path):
    for content, expected in ((POINTER, True), (b"", False), (b"version 3", False)):
        (tmp_path / "file").write_bytes(content)
        assert is_lfs_pointer(tmp_path / "file") is expected
    assert not is_lfs_pointer(tmp_path)
    assert not is_lfs_pointer(tmp_path / "none")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_encoders.write_folder(tmp_path_factory.mktemp("lfs") / "clip", "clip")


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ],
)
def test_files_of_a_checkpoint(folder, tmp_path, name):
    copied = shutil.copytree(folder, tmp_path / "copy")
    (copied / name).write_bytes(POINTER)
    with pytest.raises(ValueError, match=f"{name}.*Git LFS pointer.*`git lfs pull`"):
        ja.load_encoders(copied).space  # noqa: B018


@pytest.mark.usefixtures("no_shape_hook")
def test_a_map(tmp_path):
    (tmp_path / "map.safetensors").write_bytes(POINTER)
    with pytest.raises(ValueError, match=r"map\.safetensors.*Git LFS.*`git lfs pull`"):
        ja.AlignmentMap.load(tmp_path / "map.safetensors")
