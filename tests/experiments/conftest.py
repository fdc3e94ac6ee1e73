# SPDX-License-Identifier: Apache-2.0
"""The tiny data set, drawn once for all experiments of this folder."""

import pytest

from jaxalign.data import catalog


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    catalog.load_dataset("openmoji/tiny", "learnt", data_dir=root)
    return root
