# SPDX-License-Identifier: Apache-2.0
"""Several real processes write one store, and end at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.writing import Data, tree

DATA = Data(examples=900, part_examples=70, skipped=frozenset({5, *range(140, 210)}))
PROGRAM = """
import sys, time
from pathlib import Path
from tests.store.test_processes import DATA
folder, index, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with DATA.create(folder, process_index=index) as writer:
    # Cuts that leave the parts in the middle: neighbours share them.
    own = range(900 * index // count, 900 * (index + 1) // count)
    for gap in writer.missing(own.start, own.stop):
        for first in range(gap.start, gap.stop, 10):
            DATA.append(writer, range(first, min(first + 10, gap.stop)))
    while not writer.is_complete():
        time.sleep(0.001)
    print(len(writer.finish()))
"""


@pytest.mark.slow
def test_processes_that_share_parts_and_end_at_once(tmp_path):
    DATA.write(tmp_path / "whole")
    for turn, count in enumerate((2, 4, 4)):
        folder = tmp_path / f"store {turn}"
        running = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    PROGRAM,
                    os.fspath(folder),
                    str(index),
                    str(count),
                ],
                cwd=Path(__file__).parents[2],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(count)
        ]
        told = [process.communicate(timeout=120) for process in running]
        assert [process.returncode for process in running] == [0] * count, told
        assert {out.strip() for out, _ in told} == {str(len(DATA.ids))}
        assert tree(folder) == tree(tmp_path / "whole")
