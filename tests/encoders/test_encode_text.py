# SPDX-License-Identifier: Apache-2.0
"""Ids and masks that cannot be meant are refused on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.encoders.pretrained import load_encoders
from tests import tiny_encoders

LENGTH = tiny_encoders.TEXT_LENGTH


@pytest.fixture(scope="module", params=tiny_encoders.FAMILIES)
def encoders(request, folders):
    return load_encoders(folders[request.param])


def _vocabulary(encoders):
    return encoders.config.text_config.vocab_size


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("beyond", [0, 1000])
def test_ids_beyond_the_vocabulary_are_refused(encoders, beyond, dtype):
    ids = tiny_encoders.random_ids(3).astype(dtype)
    vocabulary = _vocabulary(encoders)
    ids[1, 2] = vocabulary + beyond
    told = rf"\[0, {vocabulary}\).*to {vocabulary + beyond}; use the tokenizer that"
    with pytest.raises(ValueError, match=told):
        encoders.encode_text(ids)


def test_negative_ids_are_refused(encoders):
    ids = tiny_encoders.random_ids(3)
    ids[2, 0] = -1
    with pytest.raises(ValueError, match="got ids from -1 to .*; use the tokenizer"):
        encoders.encode_text(ids)


def test_the_last_id_is_taken_and_arrays_on_the_device_are_left_alone(encoders):
    """To look at them would wait for the device, or fail where they are traced."""
    ids = jnp.full((2, LENGTH), _vocabulary(encoders) + 5)
    last = np.full((2, LENGTH), _vocabulary(encoders) - 1, np.int32)
    expected = encoders.encode_text(last)
    np.testing.assert_array_equal(encoders.encode_text(ids), expected)
    shape = jax.eval_shape(encoders.encode_text, ids).shape
    assert shape == (2, encoders.dim)


@pytest.mark.usefixtures("no_shape_hook")
def test_ids_that_are_no_integers_are_refused(encoders):
    for ids in (np.zeros((2, LENGTH)), np.zeros((2, LENGTH), bool)):
        with pytest.raises(ValueError, match="expected integers.* tokenizes strings"):
            encoders.encode_text(ids)


def test_texts_of_no_token_are_refused(encoders):
    with pytest.raises(ValueError, match=r"t at most 12 .*got \(2, 0\)"):
        encoders.encode_text(np.zeros((2, 0), np.int32))


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_masks_that_are_not_bool_are_refused(encoders, dtype):
    ids = tiny_encoders.random_ids(2)
    with pytest.raises(ValueError, match=r"expected bool.*pass `mask == 1`"):
        encoders.encode_text(ids, np.ones(ids.shape, dtype))
