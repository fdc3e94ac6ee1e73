# SPDX-License-Identifier: Apache-2.0
"""The tiny data set, prepared once for all tests of this folder."""

import pytest

from jaxalign.data import catalog, openmoji_table


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="session")
def tiny_splits(data_dir):
    """All splits of the tiny data set, decoded."""
    return {
        split: catalog.load_dataset(
            "openmoji/tiny", split, data_dir=data_dir, in_memory=True
        )
        for split in openmoji_table.SPLITS
    }
