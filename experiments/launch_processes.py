# SPDX-License-Identifier: Apache-2.0
"""The flags of experiments that run as one process or as many."""

from absl import flags

from jaxalign.processes import join_processes

_COORDINATOR = flags.DEFINE_string(
    "coordinator_address",
    None,
    "host:port of process 0, for a run of several processes that no cluster launches.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "How many processes there are.", lower_bound=1
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Which of them this is, from 0.", lower_bound=0
)
_JOIN = flags.DEFINE_boolean(
    "join_processes",
    None,
    "Join the other processes of a cluster. Default: where SLURM, Open MPI or a TPU "
    "machine says that there are some; set it on Kubernetes.",
)


def join() -> None:
    """Join the other processes of this run, if there are some.

    Raises:
      ValueError: see `join_processes`.
    """
    join_processes(
        coordinator_address=_COORDINATOR.value,
        num_processes=_NUM_PROCESSES.value,
        process_id=_PROCESS_ID.value,
        join=_JOIN.value,
    )
