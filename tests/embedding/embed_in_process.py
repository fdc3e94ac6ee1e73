# SPDX-License-Identifier: Apache-2.0
"""One of two processes that embed over one mesh: python embed_in_process.py ..."""

import sys
from pathlib import Path

import jax
import numpy as np

import jaxalign as ja
from jaxalign.processes import join_processes
from tests import tiny_encoders
from tests.embedding.processes_source import COUNT, Examples


def main(port: str, process: str, folder: str) -> None:
    """Embed this process's half of the examples, and keep its rows."""
    jax.config.update("jax_num_cpu_devices", 2)
    join_processes(
        coordinator_address=f"127.0.0.1:{port}",
        num_processes=2,
        process_id=int(process),
    )
    assert jax.process_count() == 2
    assert jax.device_count() == 4
    half = COUNT // 2
    own = range(int(process) * half, (int(process) + 1) * half)
    root = Path(folder)
    models = [ja.load_encoders(root / name) for name in tiny_encoders.WRITTEN]
    batches = ja.embedding.embedding_batches(
        Examples(), models, batch_size=4, examples=[own]
    )
    stream = list(ja.embed(models, batches, mesh=ja.sharding.data_mesh()))
    # The rows of a step are those of both processes, spread over four devices.
    assert stream[0][0].image.shape[0] == 8
    sets = ja.embedding.gather(stream)
    for name, rows in zip(tiny_encoders.WRITTEN, sets, strict=True):
        np.savez(
            root / f"{name}-{process}.npz",
            image=rows.image,
            text=rows.text,
            ids=rows.ids,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
