# SPDX-License-Identifier: Apache-2.0
"""Tensors are copied once, whatever their dtype and strides, and checked on the way."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.encoders import placing
from jaxalign.encoders.placing import NotWeights, digest_parameters, place


@pytest.fixture(params=[1 << 20, 7])
def block(request, monkeypatch):
    """Blocks of the usual size, and of so few entries that a row is cut off."""
    monkeypatch.setattr(placing, "_BLOCK_ENTRIES", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("stored", [np.float16, np.float32, np.float64, jnp.bfloat16])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 5), (3, 1, 2), (0, 3)])
def test_values_are_those_of_a_cast(stored, dtype, shape):
    values = np.random.default_rng(0).standard_normal(shape).astype(stored)
    for tensor in (values, values.T):
        placed = place(tensor, dtype)
        assert placed.dtype == jnp.dtype(dtype)
        np.testing.assert_array_equal(placed, tensor.astype(jnp.dtype(dtype)))


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_what_is_not_finite_is_refused(bad):
    values = np.ones((6, 5))
    values[4, 2] = bad
    with pytest.raises(NotWeights):
        place(values, "float32")


@pytest.mark.usefixtures("no_shape_hook")
def test_integers_are_refused():
    with pytest.raises(NotWeights, match="int8"):
        place(np.ones(3, np.int8), "float32")


@pytest.mark.usefixtures("block")
def test_the_digest_is_of_paths_shapes_and_float32_bytes():
    values = np.arange(12, dtype=np.float16).reshape(3, 4)
    expected = hashlib.sha256(b"a (4, 3)\n")
    expected.update(values.T.astype(np.float32).tobytes())
    expected.update(b"b ()\n" + np.float32(2).tobytes())
    parameters = [("a", values.T), ("b", np.array(2.0))]
    assert digest_parameters(parameters) == expected.digest()
