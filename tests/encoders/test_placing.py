# SPDX-License-Identifier: Apache-2.0
"""Tensors are copied once, whatever their dtype and strides, and checked on the way."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.encoders import placing
from jaxalign.encoders.placing import NotWeights, digest_parameters, place


@pytest.fixture(params=[1 << 20, 7], ids=["whole", "cut"])
def block(request, monkeypatch):
    """Blocks of the usual size, and of so few entries that a row is cut off."""
    monkeypatch.setattr(placing, "_BLOCK_ENTRIES", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("stored", ["float16", "float32", "float64", "bfloat16"])
def test_values_are_those_of_a_cast(stored):
    for shape in ((), (1,), (5,), (4, 5), (3, 1, 2), (0, 3)):
        values = np.random.default_rng(0).standard_normal(shape)
        values = values.astype(jnp.dtype(stored))
        for tensor in (values, values.T):
            for dtype in ("float32", "bfloat16"):
                placed = place(tensor, dtype)
                assert placed.dtype == jnp.dtype(dtype)
                np.testing.assert_array_equal(placed, tensor.astype(jnp.dtype(dtype)))


@pytest.mark.usefixtures("block")
def test_what_is_not_finite_in_float32_is_refused():
    for bad in (np.nan, np.inf, 1e300):
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
