# SPDX-License-Identifier: Apache-2.0
"""`experiments.embed`, killed at random moments, ends in an undisturbed run's bytes."""

import signal
import time

import numpy as np
import pytest

import jaxalign as ja
from tests.experiments import embed_runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return embed_runs.write_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """An undisturbed run's files, and the seconds that it writes once all is warm."""
    root = tmp_path_factory.mktemp("undisturbed")
    embed_runs.finish([embed_runs.start(data, root / "cold")])
    run = [embed_runs.start(data, root / "warm")]
    seconds = embed_runs.time_writing(run, root / "warm")
    tree = embed_runs.read_tree(root / "warm")
    assert tree == embed_runs.read_tree(root / "cold")
    return tree, seconds


def _kill_within(processes, workdir, seconds, *, seed):
    """Kill a run at a random moment of its writing."""
    embed_runs.wait_for_writing(processes, workdir)
    time.sleep(np.random.default_rng(seed).uniform() * seconds)
    embed_runs.kill(processes)


def test_an_undisturbed_run_holds_every_readable_picture(undisturbed, tmp_path):
    tree, _ = undisturbed
    for name, content in tree.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for role in ("source", "target"):
        store = ja.EmbeddingStore.open(tmp_path / role)
        store.verify()
        expected = [
            f"{number:04d}.png"
            for number in range(embed_runs.COUNT)
            if number not in embed_runs.BROKEN
        ]
        assert store.ids().tolist() == expected
        assert [name for name, _ in store.skipped] == [
            f"{number:04d}.png" for number in sorted(embed_runs.BROKEN)
        ]


def test_kills_change_no_byte(data, undisturbed, tmp_path):
    """Killed, started again, killed again: each start goes on from the last."""
    tree, seconds = undisturbed
    for turn in range(4):
        run = [embed_runs.start(data, tmp_path)]
        _kill_within(run, tmp_path, seconds / 5, seed=turn)
    embed_runs.finish([embed_runs.start(data, tmp_path)])
    assert embed_runs.read_tree(tmp_path) == tree


def test_a_kill_before_anything_is_written_changes_no_byte(data, undisturbed, tmp_path):
    run = [embed_runs.start(data, tmp_path)]
    time.sleep(1.0)
    embed_runs.kill(run)
    embed_runs.finish([embed_runs.start(data, tmp_path)])
    assert embed_runs.read_tree(tmp_path) == undisturbed[0]


@pytest.fixture(scope="module")
def by_two(data, undisturbed, tmp_path_factory):
    """The seconds that two processes write: the same bytes as one."""
    workdir = tmp_path_factory.mktemp("by_two")
    seconds = embed_runs.time_writing(embed_runs.start_all(data, workdir, 2), workdir)
    assert embed_runs.read_tree(workdir) == undisturbed[0]
    return seconds


def test_kills_of_two_processes_change_no_byte(data, undisturbed, by_two, tmp_path):
    """Two go on from where two were killed, and then one alone."""
    for turn in range(2):
        run = embed_runs.start_all(data, tmp_path, 2)
        _kill_within(run, tmp_path, by_two / 3, seed=10 + turn)
    embed_runs.finish([embed_runs.start(data, tmp_path)])
    assert embed_runs.read_tree(tmp_path) == undisturbed[0]


def test_a_process_that_fails_ends_the_others_with_its_reason(data, tmp_path):
    """Without it they would wait for its parts, and then in JAX's farewell."""
    run = embed_runs.start_all(data, tmp_path, 2, "--strict")
    outputs = [process.communicate(timeout=100)[0] for process in run]
    assert [process.returncode for process in run] == [2, 2]
    for output in outputs:
        # Its own picture, or that of the other.
        assert "cannot be read" in output.splitlines()[-1]


def test_a_second_run_on_one_store_is_refused_and_harms_nothing(
    data, undisturbed, tmp_path
):
    first = embed_runs.start(data, tmp_path)
    embed_runs.wait_for_writing([first], tmp_path)
    first.send_signal(signal.SIGSTOP)
    second = embed_runs.start(data, tmp_path)
    output, _ = second.communicate(timeout=100)
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert "another run that is writing it" in output.splitlines()[-1]
    embed_runs.finish([first])
    assert embed_runs.read_tree(tmp_path) == undisturbed[0]


def test_an_interrupted_run_ends_in_one_line_and_goes_on(data, undisturbed, tmp_path):
    run = embed_runs.start(data, tmp_path)
    embed_runs.wait_for_writing([run], tmp_path)
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=100)
    assert run.returncode == 130
    assert output.splitlines()[-1] == "interrupted."
    assert "Traceback" not in output
    embed_runs.finish([embed_runs.start(data, tmp_path)])
    assert embed_runs.read_tree(tmp_path) == undisturbed[0]
