# SPDX-License-Identifier: Apache-2.0
"""One of two processes of a pass: `python -m tests.moments.pass_in_process`."""

import sys

import jax
import numpy as np

import jaxalign as ja
from jaxalign.processes import join_processes
from tests.cases import rows_pair

N, D_SOURCE, D_TARGET, GROUPS = 210, 6, 4, 3

# The rows of each process, in groups and not: unlike many, and all of one process.
SHARES = {"uneven": (0, 40, 210), "alone": (0, 210, 210)}
RUNS = (("uneven", 3), ("uneven", None), ("alone", 3))


def rows():
    source, target = rows_pair(
        np.random.default_rng(0), N, D_SOURCE, D_TARGET, mean=0.93
    )
    # Sorted by class: the processes' means differ.
    source[: N // 2] += 0.5
    return source, target, np.arange(N) % GROUPS


def main(port: str, number: str, folder: str) -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    join_processes(
        coordinator_address=f"127.0.0.1:{port}",
        num_processes=2,
        process_id=int(number),
    )
    source, target, group = rows()
    mesh = ja.sharding.data_mesh()
    assert mesh.size == 4
    assert mesh.is_multi_process
    for name, groups in RUNS:
        edges = SHARES[name]
        batches = ja.anchors.array_pairs(
            source,
            target,
            group=None if groups is None else group,
            batch_size=16,
            rows=range(edges[int(number)], edges[int(number) + 1]),
        )
        moments = ja.accumulate_moments(batches, mesh=mesh, groups=groups, grams=True)
        solution = ja.solve.solve_procrustes(moments)
        np.savez(
            f"{folder}/{name}-{groups}-{number}.npz",
            rotation=solution.rotation,
            **{key: np.asarray(value) for key, value in vars(moments).items()},
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
