# SPDX-License-Identifier: Apache-2.0
"""A disk that fills up: one clear message, and nothing already written is lost."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxalign.store.disk_errors import FullDiskError
from tests.store.writing import Data, empty, tree

DATA = Data(examples=5, part_examples=3, skipped=frozenset({1}))


def test_every_write_may_be_the_one_too_many(tmp_path, monkeypatch):
    DATA.write(tmp_path / "whole")
    whole = tree(tmp_path / "whole")
    folder = tmp_path / "store"
    sync = os.fsync
    for room in range(200):
        left = room

        def full(descriptor):
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
            sync(descriptor)

        appended = set()
        caught = None
        empty(folder)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            try:
                with DATA.create(folder) as writer:
                    for first in range(DATA.examples):
                        DATA.append(writer, range(first, first + 1))
                        appended.add(first)
                    writer.finish()
            except FullDiskError as error:
                caught = error
        if caught is None:
            break
        assert caught.errno == errno.EDQUOT
        assert "MB free there" in str(caught)
        assert "start the same command again" in str(caught)
        temporary = folder / ".unfinished" / "tmp-0"
        assert not temporary.exists() or not list(temporary.iterdir())
        with DATA.create(folder) as writer:
            left_over = {i for gap in writer.missing() for i in gap}
            assert not appended & left_over
        DATA.write(folder)
        assert tree(folder) == whole
    assert 20 < room < 199


LIMITED = """
import resource, sys
from pathlib import Path
from tests.store.test_full_disk import CASES
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
data = CASES[sys.argv[3]]
with data.create(Path(sys.argv[1])) as writer:
    data.fill(writer, batch=50)
"""
CASES = {
    "rows": Data(examples=1000, part_examples=900, width=32),
    "metadata": Data(examples=1000, part_examples=900, width=1),
}


@pytest.mark.parametrize(
    ("kind", "limit"),
    [
        ("rows", 5_000),
        ("rows", 100_000),
        ("metadata", 9_000),
    ],
    ids=["a chunk", "a row file", "a metadata file"],
)
def test_the_kernel_itself_refuses_a_file(tmp_path, kind, limit):
    pytest.importorskip("resource")
    folder = os.fspath(tmp_path / "store")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            LIMITED,
            folder,
            str(limit),
            kind,
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("jaxalign.store.disk_errors.FullDiskError: the store in"), (
        last
    )
    # No complaint of a parquet writer that was left alone.
    assert "ignored" not in done.stderr, done.stderr
    chunks = list((tmp_path / "store/.unfinished/chunks").rglob("*.arrow"))
    assert len(chunks) == (0 if limit == 5_000 else 18)
    store = CASES[kind].write(tmp_path / "store", batch=50)
    assert store.ids().tolist() == CASES[kind].ids
