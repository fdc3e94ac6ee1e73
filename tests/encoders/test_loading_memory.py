# SPDX-License-Identifier: Apache-2.0
"""Loading holds the parameters once: measured on a checkpoint of 190 MB."""

import subprocess
import sys
from pathlib import Path

import pytest

from jaxalign.encoders.checkpoint import save_model
from tests import tiny_encoders

pytestmark = pytest.mark.slow

# Loads a small checkpoint first, so that what libraries allocate once is not counted.
PROGRAM = """
import sys, threading, time
import jax
from jaxalign.encoders.pretrained import load_encoders

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(l.split()[1]) for l in status if l.startswith("RssAnon")) << 10

small, large, dtype = sys.argv[1:]
load_encoders(small, dtype=dtype)
before, peak, done = anonymous(), 0, False

def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.0005)

watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
encoders = load_encoders(large, dtype=dtype)
jax.block_until_ready(encoders._parameters)
done = True
watcher.join()
size = sum(leaf.nbytes for leaf in jax.tree.leaves(encoders._parameters))
print((peak - before) / size)
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A small and a large checkpoint; in the large one, one table is most of it."""
    root = tmp_path_factory.mktemp("memory")
    text = dict(hidden_size=256, intermediate_size=1024, vocab_size=120_000)
    vision = dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=4)
    for name, sizes in (("small", {}), ("large", dict(text=text, vision=vision))):
        config = tiny_encoders.make_config("clip", **sizes)
        state = tiny_encoders.random_parameters(config)[1]
        save_model(root / name, state, config)
    return root


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_host_holds_little_more_than_the_parameters(checkpoints, dtype):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM,
            checkpoints / "small",
            checkpoints / "large",
            dtype,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    share = float(done.stdout)
    # Less than one copy would mean that nothing was measured.
    assert 0.9 < share < 1.3
