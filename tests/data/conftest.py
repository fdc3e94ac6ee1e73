# SPDX-License-Identifier: Apache-2.0
"""The tiny data set, of a few emoji, prepared once for all tests of this folder."""

import pytest

from jaxalign.data import catalog, openmoji_table
from tests import few_emoji


@pytest.fixture(scope="module")
def few_emoji_are_drawn():
    patch = few_emoji.few_emoji()
    yield
    patch.undo()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    patch = few_emoji.few_emoji()
    for split in ("learnt", "source_train"):  # one of each folder
        catalog.load_dataset("openmoji/tiny", split, data_dir=root)
    patch.undo()
    return root


@pytest.fixture(scope="session")
def tiny_splits(data_dir):
    """All splits of the tiny data set, decoded."""
    return {
        split: catalog.load_dataset(
            "openmoji/tiny", split, data_dir=data_dir, in_memory=True
        )
        for split in openmoji_table.SPLITS
    }
