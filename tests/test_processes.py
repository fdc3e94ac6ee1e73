# SPDX-License-Identifier: Apache-2.0
"""When a process joins others, and when it stays alone."""

import jax
import pytest

from jaxalign import processes
from jaxalign.processes import join_processes


@pytest.fixture
def joined(monkeypatch):
    """What `jax.distributed.initialize` was called with."""
    calls = []
    monkeypatch.setattr(
        jax.distributed,
        "initialize",
        lambda *values, local_device_ids: calls.append(values),
    )
    monkeypatch.setattr(processes, "_has_tpu", lambda: False)
    for name in ("SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_a_laptop_stays_alone(joined):
    join_processes()
    assert joined == []


def test_three_arguments_join(joined):
    join_processes(coordinator_address="host:1", num_processes=4, process_id=2)
    assert joined == [("host:1", 4, 2)]


@pytest.mark.parametrize(
    ("environment", "joins"),
    [
        ({"SLURM_STEP_NODELIST": "n[0-1]", "SLURM_STEP_NUM_TASKS": "8"}, True),
        ({"SLURM_STEP_NODELIST": "n0", "SLURM_STEP_NUM_TASKS": "1"}, False),
        # An allocation without a step: a shell on the login node.
        ({"SLURM_STEP_NUM_TASKS": "8"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({}, False),
    ],
)
def test_clusters_are_told_from_single_processes(
    joined, monkeypatch, environment, joins
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    join_processes()
    assert joined == ([(None, None, None)] if joins else [])


def test_a_tpu_machine_joins_as_jax_finds_it(joined, monkeypatch):
    monkeypatch.setattr(processes, "_has_tpu", lambda: True)
    join_processes()
    assert joined == [(None, None, None)]
    join_processes(join=False)
    assert len(joined) == 1


def test_some_of_three_arguments_are_refused(joined):
    with pytest.raises(ValueError, match="give num_processes and process_id too"):
        join_processes(coordinator_address="host:1")
    assert joined == []


def test_nothing_to_join_is_one_error(monkeypatch):
    def fail(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(ValueError, match="join=False for a run of one process"):
        join_processes(join=True)


@pytest.mark.parametrize(
    ("visible", "on_host", "tasks", "number", "devices"),
    [
        # One task a GPU, all of which see all: JAX's own way.
        ("0,1,2,3", "4", "4(x2)", "3", [3]),
        # --gpus-per-task=1: each sees its own.
        ("0", "4", "4(x2)", "3", [0]),
        # --gpus-per-task=2.
        ("0,1", "4", "2", "1", [0, 1]),
        # One task a host.
        ("0,1,2,3", "4", "1(x8)", "0", [0, 1, 2, 3]),
        # Fewer tasks than GPUs.
        ("0,1,2,3", "4", "2", "1", [2, 3]),
        # No GPUs, or another launcher.
        ("", "4", "2", "1", None),
        ("0,1", "2", "", "", None),
    ],
)
def test_slurm_tasks_share_the_gpus_that_they_see(
    visible, on_host, tasks, number, devices
):
    environment = {
        "CUDA_VISIBLE_DEVICES": visible,
        "SLURM_GPUS_ON_NODE": on_host,
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        "SLURM_LOCALID": number,
    }
    assert processes._slurm_devices(environment) == devices


@pytest.mark.parametrize("address", ["host0", ":1234", "host0:", "host0:http"])
def test_an_address_without_host_or_port_is_refused(joined, address):
    with pytest.raises(ValueError, match="such as 'host0:1234'"):
        join_processes(coordinator_address=address, num_processes=2, process_id=0)
    assert joined == []


def test_processes_are_numbered_from_0(joined):
    with pytest.raises(ValueError, match="number the processes from 0"):
        join_processes(coordinator_address="host0:1", num_processes=2, process_id=2)
    assert joined == []
