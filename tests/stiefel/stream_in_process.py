# SPDX-License-Identifier: Apache-2.0
"""One process of two: fits a map to its half of each batch.

python -m tests.stiefel.stream_in_process PORT NUMBER FOLDER
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxalign as ja

BATCHES, ROWS, WIDTH = 12, 16, 6


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of both sides, the same for every process."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))
    found = []
    for _ in range(BATCHES):
        source = rng.standard_normal((ROWS, WIDTH)).astype(np.float32)
        noise = 0.1 * rng.standard_normal((ROWS, WIDTH))
        found.append((source, (source @ turn.T + noise).astype(np.float32)))
    return found


def loss(point, batch):
    """Mean squared error of the rotated rows."""
    source, target = batch
    return jnp.mean(jnp.sum(jnp.square(source @ point.T - target), axis=-1))


def optimizer():
    """Momentum, so that the state has a matrix too."""
    return ja.stiefel.riemannian_sgd(0.1, momentum=0.5)


def main() -> None:
    port, number, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, number)
    where = ja.sharding.row_sharding(ja.sharding.data_mesh())
    own = slice(number * ROWS // 2, (number + 1) * ROWS // 2)
    stream = (
        tuple(jax.make_array_from_process_local_data(where, side[own]) for side in pair)
        for pair in batches()
    )
    found = ja.stiefel.fit_stream(loss, jnp.eye(WIDTH), optimizer(), stream).check()
    np.savez(
        folder / f"{number}.npz",
        point=np.asarray(found.point),
        values=np.asarray(found.recorded_values),
        determinant=np.asarray(found.determinant),
    )


if __name__ == "__main__":
    main()
