# SPDX-License-Identifier: Apache-2.0
"""The mesh has one Auto axis, and padding is masked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja


def test_mesh_has_one_auto_axis_over_all_devices():
    mesh = ja.sharding.data_mesh()
    assert mesh.axis_names == (ja.sharding.DATA_AXIS,)
    assert mesh.devices.size == len(jax.devices()) == 8
    rows = jax.device_put(jnp.ones((16, 3)), ja.sharding.row_sharding(mesh))
    # Raises under Explicit axes.
    assert float(jnp.matmul(rows.T, rows)[0, 0]) == 16.0


def test_pad_rows_masks_the_tail_and_keeps_the_dtype():
    rows = np.arange(6, dtype=np.float16).reshape(3, 2)
    padded, mask = ja.sharding.pad_rows(rows, 5)
    assert padded.dtype == np.float16
    assert mask.tolist() == [True] * 3 + [False] * 2
    np.testing.assert_array_equal(padded[mask], rows)
    assert ja.sharding.pad_rows(rows, 3)[0] is rows


def test_pad_rows_does_not_drop():
    with pytest.raises(ValueError, match="split the rows"):
        ja.sharding.pad_rows(np.ones((3, 2)), 2)
