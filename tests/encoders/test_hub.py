# SPDX-License-Identifier: Apache-2.0
"""Names lead to shipped pairs, folders, and snapshots in the hub's cache."""

import shutil
import unittest.mock

import numpy as np
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

import jaxalign as ja
from jaxalign.encoders import hub
from tests import tiny_encoders

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch, folders):
    """A hub cache as a download leaves it, read without a network."""
    repository = tmp_path / "models--someone--tiny-clip"
    snapshot = repository / "snapshots" / COMMIT
    shutil.copytree(folders["clip"], snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_model_of_the_hub_loads_from_the_cache(cache, loaded, revision):
    encoders = ja.load_encoders("someone/tiny-clip", revision=revision)
    # One space: the same weights, tokenizer and image settings.
    assert encoders.space == loaded["clip"].space
    assert encoders.name == "someone/tiny-clip"


def test_a_folder_of_that_name_wins(cache, folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_encoders.copy_folder(folders["siglip"], "someone/tiny-clip")
    assert ja.load_encoders("someone/tiny-clip").config.model_type == "siglip"


def _list_files(snapshot, *more):
    """Leave the listing of the repository that a download leaves in the cache."""
    trees = pytest.importorskip("huggingface_hub._tree_cache")
    names = [*(path.name for path in snapshot.iterdir()), *more]
    entry = trees.TreeCacheEntry(
        size=1, blob_id="0" * 40, lfs_sha256=None, lfs_size=None, xet_hash=None
    )
    trees.write_tree_cache(
        str(snapshot.parents[1]), COMMIT, dict.fromkeys(sorted(set(names)), entry)
    )


def test_a_snapshot_of_json_and_safetensors_is_enough(cache, loaded):
    """As other tools fetch it: the repository has more, of which nothing is read."""
    more = ["merges.txt", "vocab.json", "README.md", "pytorch_model.bin", "LICENSE.txt"]
    _list_files(cache, *more, "onnx/config.json")
    encoders = ja.load_encoders("someone/tiny-clip")
    assert encoders.space == loaded["clip"].space
    texts = ["a red apple"]
    expected = loaded["clip"].embed_texts(texts)
    np.testing.assert_array_equal(encoders.embed_texts(texts), expected)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("listed", "without"),
    [
        ("merges.txt", "tokenizer.json"),
        ("preprocessor_config.json", "preprocessor_config.json"),
        ("model.safetensors", "model.safetensors"),
    ],
)
def test_files_that_are_read_must_be_there(cache, listed, without):
    """Else the model would be another: without texts, or of another space."""
    _list_files(cache, listed)
    (cache / without).unlink()
    with pytest.raises(ValueError, match=f"cache.*{listed}"):
        ja.load_encoders("someone/tiny-clip")


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("address", "revision"),
    [
        ("hf-hub:google/siglip-base", None),
        ("hf-hub:google/siglip-base@v1.0", "v1.0"),
        ("https://huggingface.co/google/siglip-base", None),
        ("https://huggingface.co/google/siglip-base/", None),
        ("https://huggingface.co/google/siglip-base/tree/main", None),
        ("https://huggingface.co/google/siglip-base/tree/refs%2Fpr%2F3", "refs/pr/3"),
        ("https://huggingface.co/google/siglip-base/blob/v1.0/config.json", "v1.0"),
        ("http://hf.co/google/siglip-base?library=x", None),
        ("huggingface.co/google/siglip-base", None),
        ("hf.co/google/siglip-base/resolve/v1.0/model.safetensors", "v1.0"),
        ("https://huggingface.co/google/siglip-base.git", None),
    ],
)
def test_addresses_say_what_to_type(address, revision):
    told = r"pass 'google/siglip-base'"
    if revision is not None:
        told += f" and revision='{revision}'; .* google/siglip-base@{revision}"
    with pytest.raises(ValueError, match=f"{told}[.]?$"):
        ja.load_encoders(address)


@pytest.mark.usefixtures("cache", "no_shape_hook")
class TestErrors:
    def test_what_is_not_cached(self):
        for name in ("someone/other", "someone/tiny-clip"):
            with pytest.raises(ValueError, match=f"name='{name}'.*cache"):
                ja.load_encoders(name, revision="another")

    def test_what_is_no_name(self):
        other = "https://huggingface.co/datasets/someone/pictures"
        for name in ("clip", "/no/such/folder", "a/b/c", "x y/z", "", other):
            with pytest.raises(ValueError, match=f"name='{name}'.*shipped"):
                ja.load_encoders(name)

    def test_a_revision_of_what_lies_here(self, folders):
        for here in (*hub.SHIPPED, str(folders["clip"])):
            with pytest.raises(ValueError, match="revision='main'"):
                ja.load_encoders(here, revision="main")

    def test_pickled_weights_alone(self, cache):
        (cache / "model.safetensors").unlink()
        with pytest.raises(ValueError, match="name=.*safetensors"):
            ja.load_encoders("someone/tiny-clip")

    def test_whatever_the_network_raises(self, monkeypatch):
        for error in (OSError(), RuntimeError("reading timed out")):
            fail = unittest.mock.Mock(side_effect=error)
            monkeypatch.setattr(hub, "snapshot_download", fail)
            with pytest.raises(ValueError, match="name=.*cache"):
                ja.load_encoders("someone/tiny-clip")

    @pytest.mark.parametrize(
        ("error", "remedy"),
        [
            (RepositoryNotFoundError, "check the name, or log in"),
            (RevisionNotFoundError, "leave revision out"),
        ],
    )
    def test_what_the_hub_does_not_know(self, monkeypatch, error, remedy):
        def refuse(*_, **__):
            raise error.__new__(error)

        monkeypatch.setattr(hub, "snapshot_download", refuse)
        with pytest.raises(ValueError, match=remedy):
            ja.load_encoders("someone/tiny-clip")
