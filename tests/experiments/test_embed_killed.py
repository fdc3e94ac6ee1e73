# SPDX-License-Identifier: Apache-2.0
"""`experiments.embed`, killed at random moments, ends in an undisturbed run's bytes."""

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


@pytest.mark.parametrize("seed", range(10))
def test_a_kill_changes_no_byte(data, undisturbed, tmp_path, seed):
    tree, seconds = undisturbed
    run = [embed_runs.start(data, tmp_path)]
    _kill_within(run, tmp_path, seconds, seed=seed)
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


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_of_two_processes_changes_no_byte(
    data, undisturbed, by_two, tmp_path, seed
):
    run = embed_runs.start_all(data, tmp_path, 2)
    _kill_within(run, tmp_path, by_two, seed=seed)
    embed_runs.finish(embed_runs.start_all(data, tmp_path, 2))
    assert embed_runs.read_tree(tmp_path) == undisturbed[0]


def test_another_number_of_processes_goes_on(data, undisturbed, by_two, tmp_path):
    run = embed_runs.start_all(data, tmp_path, 2)
    _kill_within(run, tmp_path, by_two, seed=3)
    embed_runs.finish([embed_runs.start(data, tmp_path)])
    assert embed_runs.read_tree(tmp_path) == undisturbed[0]
