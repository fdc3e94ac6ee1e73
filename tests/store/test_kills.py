# SPDX-License-Identifier: Apache-2.0
"""A kill at any moment, and a start again: the bytes of an undisturbed run."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.store.writing import Data, empty, tree

# Every call that changes what is on the disk, but for writes into files that have no
# name of their own yet.
CALLS = ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir", "open")
DATA = Data(examples=5, part_examples=3, skipped=frozenset({1, 4}))


class KilledError(BaseException):
    """Stands for SIGKILL: nothing may run after it."""


class Killer:
    """Lets some calls pass, and no other is made after them."""

    def __init__(self, monkeypatch, allowed: int):
        self.left = allowed
        for name in CALLS:
            monkeypatch.setattr(os, name, self.guard(getattr(os, name)))

    def guard(self, call):
        def guarded(*arguments, **options):
            self.left -= 1
            if self.left >= 0:
                return call(*arguments, **options)
            # What would clean up after an exception is as dead as the rest.
            raise KilledError

        return guarded


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "store"
    DATA.write(folder)
    return tree(folder)


def killed(folder: Path, monkeypatch, allowed: int) -> bool:
    """Write a store, and die after so many calls; False if the run needs no more."""
    with monkeypatch.context() as patch:
        Killer(patch, allowed)
        writer = None
        try:
            # No `with`: a killed process leaves no block.
            writer = DATA.create(folder)
            DATA.fill(writer, batch=2)
            writer.finish()
        except KilledError:
            return True
        finally:
            if writer is not None and writer._lock is not None:
                writer._lock.release()  # as the system does
    return False


def test_a_kill_before_any_system_call(tmp_path, monkeypatch, undisturbed):
    allowed = 0
    while killed(empty(tmp_path / "store"), monkeypatch, allowed):
        assert DATA.write(tmp_path / "store").ids().tolist() == DATA.ids
        assert tree(tmp_path / "store") == undisturbed, f"killed at call {allowed}"
        allowed += 1
    assert allowed > 80  # else the calls are no longer seen


def test_kills_of_every_new_start(tmp_path, monkeypatch, undisturbed):
    """Runs that are killed again and again, each a little later, get there at last."""
    for seed in range(5):
        folder = empty(tmp_path / "store")
        drawn = random.Random(seed)
        kills = 0
        while killed(folder, monkeypatch, drawn.randrange(8, 40)):
            kills += 1
            assert kills < 200
        assert kills > 3
        DATA.write(folder)
        assert tree(folder) == undisturbed


def test_nothing_appended_is_embedded_again(tmp_path, monkeypatch):
    """A killed run loses the append that it falls into, at most."""
    folder = tmp_path / "store"
    for allowed in range(0, 260, 7):
        with monkeypatch.context() as patch:
            Killer(patch, allowed)
            appended = 0
            writer = None
            try:
                writer = DATA.create(empty(folder))
                for first in range(DATA.examples):
                    DATA.append(writer, range(first, first + 1))
                    appended += 1
            except KilledError:
                pass
            finally:
                if writer is not None and writer._lock is not None:
                    writer._lock.release()
        with DATA.create(folder) as writer:
            left = sum(map(len, writer.missing()))
        assert DATA.examples - left - appended in (0, 1)


PROGRAM = """
import sys
from pathlib import Path
from tests.store.test_kills import BIG
writer = BIG.create(Path(sys.argv[1]))
print("started", flush=True)
BIG.fill(writer, batch=20)
writer.finish()
"""
BIG = Data(examples=6000, part_examples=1500, width=64)


@pytest.mark.slow
def test_sigkill_at_random_moments(tmp_path):
    BIG.write(tmp_path / "whole", batch=50)
    whole = tree(tmp_path / "whole")
    drawn = random.Random(0)
    root = Path(__file__).parents[2]
    for _ in range(2):
        folder = empty(tmp_path / "store")
        kills = 0
        finished = False
        while not finished:
            with subprocess.Popen(
                [sys.executable, "-c", PROGRAM, os.fspath(folder)],
                cwd=root,
                stdout=subprocess.PIPE,
            ) as process:
                assert process.stdout is not None
                process.stdout.readline()
                # Ever later: on a slow machine a resumed run takes longer to begin.
                time.sleep(drawn.uniform(0.0, 0.1 + 0.02 * kills))
                process.kill()
                finished = process.wait() == 0
            kills += not finished
        assert kills > 2
        assert tree(folder) == whole


# Forks before any library has started a thread; each child runs to its own line.
EVERY_LINE = """
import os, signal, sys
from pathlib import Path
from tests.store.test_kills import DATA
from tests.store.writing import empty, tree

folder, stride = Path(sys.argv[1]), int(sys.argv[2])
places = tuple(f"jaxalign{os.sep}{name}" for name in ("store", "atomic_files"))

def child(run):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        run()
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)

def write_until(line):
    left = line
    def trace(frame, event, argument):
        nonlocal left
        if not any(place in frame.f_code.co_filename for place in places):
            return None
        left -= event == "line"
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    DATA.write(folder)

def resume():
    DATA.write(folder)
    assert tree(folder) == whole, "other bytes"

def remember():
    DATA.write(folder.with_name("whole"))

assert child(remember) == 0
whole = tree(folder.with_name("whole"))
line = 0
while True:
    empty(folder)
    code = child(lambda: write_until(line))
    if code == 0:
        break
    assert code == -signal.SIGKILL, (line, code)
    assert child(resume) == 0, line
    line += stride
print(line)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_sigkill_at_every_line(tmp_path):
    stride = int(os.environ.get("STORE_KILL_STRIDE", "41"))
    done = subprocess.run(
        [sys.executable, "-c", EVERY_LINE, str(tmp_path / "store"), str(stride)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 2000
