# SPDX-License-Identifier: Apache-2.0
"""Tiny checkpoint folders, written once for all tests of this folder."""

import pytest

from jaxalign.data.catalog import load_dataset
from jaxalign.encoders.pretrained import load_encoders
from tests import tiny_encoders, tiny_hub_folders

# Scripts that need torch; the doctest collector would import them.
collect_ignore = ["make_goldens.py", "make_open_clip_goldens.py"]

HUB_FOLDERS = {
    "siglip2": tiny_hub_folders.write_siglip2,
    "siglip2-lowercase": lambda folder: tiny_hub_folders.write_siglip2(
        folder, tokenizer_class="Siglip2Tokenizer"
    ),
    "siglip-spiece": tiny_hub_folders.write_siglip,
    "clip-openai": tiny_hub_folders.write_clip,
    "clip-openai-old": lambda folder: tiny_hub_folders.write_clip(
        folder, with_tokenizer_json=False
    ),
}


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


@pytest.fixture(scope="session")
def loaded(folders):
    """Each family's encoders, loaded once: tests share their compiled programs.

    Batches of 4 rows everywhere: another size is another program.
    """
    return {family: load_encoders(folder) for family, folder in folders.items()}


@pytest.fixture(params=tiny_encoders.FAMILIES)
def encoders(request, loaded):
    """Each family's encoders in turn."""
    return loaded[request.param]


@pytest.fixture(scope="session")
def hub_folders(tmp_path_factory):
    """Folders with the files of released checkpoints, by name."""
    root = tmp_path_factory.mktemp("hub")
    return {name: write(root / name) for name, write in HUB_FOLDERS.items()}


@pytest.fixture(params=HUB_FOLDERS)
def hub_folder(request, hub_folders):
    """Each of those folders in turn; tests that change one copy it first."""
    return hub_folders[request.param]


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    """Real pictures and captions: every fifth emoji of the tiny data set."""
    root = tmp_path_factory.mktemp("datasets")
    source = load_dataset("openmoji/tiny", "learnt", data_dir=root)
    return [source[i] for i in range(0, len(source), 5)]
