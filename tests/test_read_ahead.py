# SPDX-License-Identifier: Apache-2.0
"""Reading ahead touches what lies in a file, and harms nothing else."""

import threading

import numpy as np
import pytest

from jaxalign.read_ahead import ReadAhead, is_mapped, touch


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / "rows.npy", np.eye(50, 30, dtype=np.float32))
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


def test_only_files_are_touched(mapped):
    assert is_mapped(mapped)
    assert is_mapped(mapped[3:9])
    assert not is_mapped(np.eye(3))
    for rows in (mapped, mapped[3:9], mapped[:0], mapped[:, ::2], np.eye(3), [1.0]):
        touch(rows)


def test_requests_run_beside_and_one_at_a_time():
    ahead, begun, go_on = ReadAhead(), threading.Event(), threading.Event()
    seen = []

    def slow():
        seen.append(threading.current_thread().name)
        begun.set()
        assert go_on.wait(10)

    ahead.start(slow)
    assert begun.wait(10)
    ahead.start(lambda: seen.append("second"))  # the first goes on: left out
    go_on.set()
    ahead.close()
    assert len(seen) == 1
    assert seen[0] != threading.current_thread().name
