# SPDX-License-Identifier: Apache-2.0
"""Two real processes over one mesh give the rows of one process."""

import numpy as np
import pytest

import jaxalign as ja
from tests import tiny_encoders
from tests.embedding.processes_source import COUNT, Examples
from tests.two_processes import run_in_two_processes


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one(tmp_path):
    for name in tiny_encoders.WRITTEN:
        tiny_encoders.write_folder(tmp_path / name, name)
    run_in_two_processes("tests.embedding.embed_in_process", tmp_path)
    for name in tiny_encoders.WRITTEN:
        model = ja.load_encoders(tmp_path / name)
        (whole,) = ja.embedding.gather(
            ja.embed(model, ja.embedding.embedding_batches(Examples(), model))
        )
        parts = [np.load(tmp_path / f"{name}-{number}.npz") for number in range(2)]
        ids = np.concatenate([part["ids"] for part in parts])
        assert ids.tolist() == [str(i) for i in range(COUNT)]
        for modality in ("image", "text"):
            rows = np.concatenate([part[modality] for part in parts])
            np.testing.assert_allclose(rows, getattr(whole, modality), atol=1e-6)
