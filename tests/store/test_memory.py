# SPDX-License-Identifier: Apache-2.0
"""Writing, sealing, finishing and reading hold a few batches, not the store."""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.store.writing import Data

BATCH = 64
# One batch of both modalities in float32, in bytes.
ONE = BATCH * 512 * 4 * 2
# Buffers may outlive a measurement, and their pool has to outlive them.
POOLS = []


def peaks(folder: Path, examples: int) -> tuple[int, int]:
    """Write one part and read it; return the peak bytes of Python and of Arrow."""
    data = Data(examples, examples, frozenset({5}), width=512)
    POOLS.append(pa.proxy_memory_pool(pa.default_memory_pool()))
    pa.set_memory_pool(POOLS[-1])
    tracemalloc.start()
    with data.create(folder) as writer:
        for first in range(0, examples, BATCH):
            data.append(writer, range(first, first + BATCH))
        store = writer.finish()
    total = np.zeros(512)
    for batch in store.batches(BATCH):
        total += batch.rows["image"].sum(axis=0)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most, POOLS[-1].max_memory()


# A process of its own: nobody else's memory is counted.
PROGRAM = """
import json, sys
from pathlib import Path
from tests.store.test_memory import BATCH, peaks
folder = Path(sys.argv[1])
print(json.dumps([peaks(folder / str(n), n * BATCH) for n in (1, 8, 32)]))
"""


def test_four_times_the_rows_take_no_more_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, os.fspath(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    _, (python, arrow), (python_of_four, arrow_of_four) = json.loads(done.stdout)
    # Ids and captions of a part grow, by 100 bytes a row; rows of 4096 bytes do not.
    allowance = 3 * 8 * BATCH * 300
    assert allowance < 2 * ONE
    assert python_of_four < python + allowance
    assert arrow_of_four < arrow + allowance
