# SPDX-License-Identifier: Apache-2.0
"""Workers outlive no parent and die of no Ctrl-C; one that ends early is explained."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes there"),
]


@pytest.fixture
def reader():
    """A process that reads from two workers, in a group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.data.count_in_workers"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    yield process
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.communicate()


def _group(leader: int) -> set[int]:
    """Find the living processes of a group."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.add(int(path.parent.name))
    return found


def _workers(leader: int) -> set[int]:
    return {
        number
        for number in _group(leader)
        if "spawn_main" in Path(f"/proc/{number}/cmdline").read_text()
    }


def _wait(condition, seconds=20):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_workers_end_with_their_parent(reader):
    assert len(_workers(reader.pid)) == 2
    reader.kill()
    _wait(lambda: not _group(reader.pid) - {reader.pid})


def test_ctrl_c_ends_all_at_once(reader):
    os.killpg(reader.pid, signal.SIGINT)
    _, errors = reader.communicate(timeout=20)
    assert reader.returncode != 0
    # Of the main process, not of the workers.
    assert errors.count("KeyboardInterrupt") == 1
    _wait(lambda: not _group(reader.pid))


def test_a_killed_worker_is_one_error_with_its_likely_cause(reader):
    os.kill(min(_workers(reader.pid)), signal.SIGKILL)
    _, errors = reader.communicate(timeout=30)
    assert reader.returncode == 1
    (line,) = (one for one in errors.splitlines() if "WorkerDiedError: " in one)
    assert "was killed by signal 9" in line
    assert "memory" in line
    _wait(lambda: not _group(reader.pid))


UNGUARDED = """
from jaxalign.data.ordered import ordered_batches

list(ordered_batches([{"id": "0"}], batch_size=1, num_workers=1))
"""
GUARDED = """
from absl import app, flags
from jaxalign.data.ordered import ordered_batches

NAME = flags.DEFINE_string("name", "unparsed", "")

def main(argv):
    assert NAME.value == "parsed"
    count = len(list(ordered_batches([{"id": "0"}], batch_size=1, num_workers=1)))
    grain_flag = flags.FLAGS["grain_enable_multiprocess_worker_profiling"]
    print(before, count, grain_flag.present)

if __name__ == "__main__":
    batches = list(ordered_batches([{"id": "0"}], batch_size=1, num_workers=1))
    before = flags.FLAGS.is_parsed()
    app.run(main, [__file__, "--name=parsed"])
"""


def test_a_script_without_the_main_guard_is_told_of_it(tmp_path):
    done = _run(tmp_path / "script.py", UNGUARDED)
    assert done.returncode == 1
    (line,) = (one for one in done.stderr.splitlines() if "WorkerDiedError: " in one)
    assert '`if __name__ == "__main__":`' in line
    # One traceback: that of the script, not those of its worker.
    assert done.stderr.count("Traceback") == 1
    assert "memory" not in done.stderr


def test_a_script_parses_its_flags_when_it_likes(tmp_path):
    done = _run(tmp_path / "script.py", GUARDED)
    assert done.returncode == 0, done.stderr
    # Not parsed by the first workers; the second ones leave Grain's flag as it was.
    assert done.stdout == "False 1 0\n"


def _run(path, text):
    path.write_text(text)
    return subprocess.run(
        [sys.executable, str(path)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
