# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
import threading

import pytest

from jaxalign import locks
from jaxalign.locks import locked, try_lock


def test_a_held_lock_is_refused_and_free_again_after(tmp_path):
    path = tmp_path / "lock"
    lock = try_lock(path)
    assert lock is not None
    assert try_lock(path) is None
    lock.release()
    again = try_lock(path)
    assert again is not None
    again.release()


def test_a_lock_is_waited_for_with_a_notice(tmp_path, monkeypatch):
    said = []
    waiting = threading.Event()

    def warn(form, *values):
        said.append(form % values)
        waiting.set()

    monkeypatch.setattr(locks._log, "warning", warn)
    order = []

    def second():
        with locked(tmp_path / "lock", notice="waiting for it"):
            order.append("second")

    with locked(tmp_path / "lock", notice="nobody to wait for"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert said == ["waiting for it"]


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys; from jaxalign.locks import try_lock; "
        f"lock = try_lock({str(path)!r}); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert try_lock(path) is None
        process.kill()
    lock = try_lock(path)
    assert lock is not None
    lock.release()


@pytest.mark.parametrize("take", [try_lock, lambda path: locked(path).__enter__()])
def test_no_folder_is_made(tmp_path, take):
    with pytest.raises(FileNotFoundError):
        take(tmp_path / "gone" / "lock")
    assert not list(tmp_path.iterdir())


def test_another_thread_may_release(tmp_path):
    lock = try_lock(tmp_path / "lock")
    assert lock is not None
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert try_lock(tmp_path / "lock") is not None
