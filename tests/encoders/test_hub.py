# SPDX-License-Identifier: Apache-2.0
"""Names lead to shipped pairs, folders, and snapshots in the hub's cache."""

import shutil
import unittest.mock

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


@pytest.mark.usefixtures("cache", "no_shape_hook")
class TestErrors:
    def test_what_is_not_cached(self):
        for name in ("someone/other", "someone/tiny-clip"):
            with pytest.raises(ValueError, match=f"name='{name}'.*cache"):
                ja.load_encoders(name, revision="another")

    def test_what_is_no_name(self):
        for name in ("clip", "/no/such/folder", "a/b/c", "x y/z", ""):
            with pytest.raises(ValueError, match=f"name='{name}'"):
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
