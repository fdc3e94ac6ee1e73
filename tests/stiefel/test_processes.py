# SPDX-License-Identifier: Apache-2.0
"""Two real processes, each with half of every batch, fit the map of one."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from tests.stiefel.stream_in_process import WIDTH, batches, loss, optimizer
from tests.tolerances import eps
from tests.two_processes import run_in_two_processes


@pytest.mark.slow
def test_two_processes_fit_the_map_of_one(tmp_path):
    run_in_two_processes("tests.stiefel.stream_in_process", tmp_path)
    first, second = (np.load(tmp_path / f"{number}.npz") for number in range(2))
    for name in ("point", "values", "determinant"):
        np.testing.assert_array_equal(first[name], second[name])
    alone = ja.stiefel.fit_stream(loss, jnp.eye(WIDTH), optimizer(), batches())
    # Sums over rows in another order, over a dozen steps.
    bound = 50 * eps(np.float32)
    assert np.abs(first["point"] - alone.point).max() < bound
    assert np.abs(first["values"] - alone.recorded_values).max() < 10 * bound
