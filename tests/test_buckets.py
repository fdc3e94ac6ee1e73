# SPDX-License-Identifier: Apache-2.0
"""Numbers of rows fall into few sizes, and results are cut back to them."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.buckets import (
    bucket_size,
    first_rows,
    keeps_shape,
    pad_to_bucket,
    pad_to_size,
)


def test_sizes_are_few_large_enough_and_not_much_larger():
    numbers = np.arange(1, 1 << 17)
    sizes = np.array([bucket_size(int(n)) for n in numbers])
    assert (sizes >= numbers).all()
    assert (np.diff(sizes) >= 0).all()
    assert len(np.unique(sizes)) < 60
    large = numbers > 4096
    assert (sizes[large] <= numbers[large] * 1.13).all()


def test_rows_come_back_wherever_they_are():
    rows = np.arange(10.0, dtype=np.float32).reshape(5, 2)
    devices = jax.devices()[:2]
    mesh = jax.sharding.Mesh(np.array(devices), "x")
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "x"))
    for given in (rows, jnp.asarray(rows), jax.device_put(rows, devices[1])):
        padded = jnp.asarray(pad_to_bucket(given))
        assert padded.shape == (16, 2)
        assert not np.asarray(padded[5:]).any()
        back = first_rows(padded, 5)
        np.testing.assert_array_equal(back, rows)
        np.testing.assert_array_equal(first_rows(padded, 5, 1), rows[:, :1])
        filled = np.asarray(pad_to_size(given, 7, fill=-1))
        np.testing.assert_array_equal(filled[:5], rows)
        assert (filled[5:] == -1).all()
        if isinstance(given, jax.Array):
            assert back.sharding == given.sharding
    spread = jax.device_put(rows, split)
    assert pad_to_bucket(spread) is spread
    assert keeps_shape(rows, None, spread)
    assert not keeps_shape(rows, None)
    assert jax.eval_shape(pad_to_bucket, rows).shape == (5, 2)
