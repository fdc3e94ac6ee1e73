# SPDX-License-Identifier: Apache-2.0
"""Two real processes over one mesh give the rows of one process."""

import subprocess
import sys

import numpy as np
import pytest

import jaxalign as ja
from tests import tiny_encoders
from tests.embedding.processes_source import COUNT, Examples
from tests.free_port import free_port


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one(tmp_path):
    for name in tiny_encoders.FAMILIES:
        tiny_encoders.write_folder(tmp_path / name, name)
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.embedding.embed_in_process"),
                *(port, str(number), str(tmp_path)),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors[-2000:]
    for name in tiny_encoders.FAMILIES:
        model = ja.load_encoders(tmp_path / name)
        (whole,) = ja.gather(ja.embed(model, ja.embedding_batches(Examples(), model)))
        parts = [np.load(tmp_path / f"{name}-{number}.npz") for number in range(2)]
        ids = np.concatenate([part["ids"] for part in parts])
        assert ids.tolist() == [str(i) for i in range(COUNT)]
        for modality in ("image", "text"):
            rows = np.concatenate([part[modality] for part in parts])
            np.testing.assert_allclose(rows, getattr(whole, modality), atol=1e-6)
