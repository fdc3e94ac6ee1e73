# SPDX-License-Identifier: Apache-2.0
"""Joining a run of several processes, by flags or by what a cluster's launcher says.

Each process then sees its own devices (`jax.local_devices()`), its number and how many
there are. A laptop and a single host need none of it.
"""

import glob
import importlib.util
import os
from collections.abc import Mapping
from typing import cast

import jax

from jaxalign.errors import ArgumentError

_MANUAL = ("coordinator_address", "num_processes", "process_id")


def join_processes(
    *,
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    join: bool | None = None,
) -> None:
    """Join a run of several processes, if this is one of several.

    To be called before anything asks JAX for its devices. Processes are found by the
    arguments, all three together, or by the environment: SLURM steps and Open MPI jobs
    of more than one task, and TPU machines.

    Args:
      coordinator_address: "host:port" that process 0 listens on and all can reach.
      num_processes: how many there are.
      process_id: this one's number, from 0.
      join: True joins in any case, as JAX finds it (Kubernetes, TPU pods without
        environment variables); False never does; None decides by the above.

    Raises:
      ValueError: if some of the three are given and not all; or if there is nothing to
        join and `join` is True.

    Notes:
      If one process dies, the others end within about two minutes (JAX's heartbeat).
    """
    values = (coordinator_address, num_processes, process_id)
    given = [n for n, v in zip(_MANUAL, values, strict=True) if v is not None]
    if given and len(given) < len(_MANUAL):
        missing = [name for name in _MANUAL if name not in given]
        raise ArgumentError(
            "join_processes(...)",
            f"{', '.join(_MANUAL)} together",
            f"{', '.join(given)} alone",
            f"give {' and '.join(missing)} too, or leave all out: a cluster's launcher "
            "puts them into the environment",
        )
    if join is False or (join is None and not given and not _is_cluster(os.environ)):
        return
    if jax.distributed.is_initialized():
        return
    if coordinator_address is not None:
        _, _, port = coordinator_address.rpartition(":")
        if not (port.isdigit() and coordinator_address != f":{port}"):
            raise ArgumentError(
                f"join_processes(coordinator_address={coordinator_address!r})",
                "host:port, such as 'host0:1234'",
                remedy="name the host of process 0, and a port that is free there",
            )
        if not 0 <= cast(int, process_id) < cast(int, num_processes):
            raise ArgumentError(
                f"join_processes(process_id={process_id}, "
                f"num_processes={num_processes})",
                "a process_id from 0 to num_processes - 1",
                remedy="number the processes from 0",
            )
    devices = _slurm_devices(os.environ) if coordinator_address is None else None
    try:
        jax.distributed.initialize(
            coordinator_address, num_processes, process_id, local_device_ids=devices
        )
    except (ValueError, RuntimeError) as error:
        raise ArgumentError(
            "join_processes(...)",
            "a run of several processes that can be joined",
            str(error),
            "give coordinator_address, num_processes and process_id, or join=False "
            "for a run of one process",
        ) from error


def _is_cluster(environment: Mapping[str, str]) -> bool:
    """Tell whether a launcher started this process as one of several."""
    tasks = [environment.get("OMPI_COMM_WORLD_SIZE", "1")]
    # Outside a step (a shell in an allocation) there are no tasks to join.
    if "SLURM_STEP_NODELIST" in environment:
        tasks.append(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    return any(count.isdigit() and int(count) > 1 for count in tasks) or _has_tpu()


def _slurm_devices(environment: Mapping[str, str]) -> list[int] | None:
    """Return which of the GPUs that it sees a SLURM task takes; None leaves it to JAX.

    JAX takes the one of the task's number on its host, and fails where each task sees
    only its own (`--gpus-per-task`), or leaves GPUs idle where a task has several.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES", "")
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", "").split("(")[0].split(",")[0]
    number = environment.get("SLURM_LOCALID", "")
    if not (visible and tasks.isdigit() and number.isdigit()):
        return None
    count = len(visible.split(","))
    on_host = environment.get("SLURM_GPUS_ON_NODE", "")
    own = on_host.isdigit() and count < int(on_host)
    if own or int(tasks) == 1:
        return list(range(count))
    each = max(1, count // int(tasks))
    return list(range(int(number) * each, (int(number) + 1) * each))


def _has_tpu() -> bool:
    """Tell whether this is a TPU machine: JAX's own detection works on one or many."""
    has_chips = bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))
    return has_chips and importlib.util.find_spec("libtpu") is not None
