# SPDX-License-Identifier: Apache-2.0
"""Ids outside the vocabulary are found on the host, and left alone on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny_encoders

SHAPE = (4, tiny_encoders.TEXT_LENGTH)


def test_ids_outside_the_vocabulary_are_refused(encoders):
    vocabulary = encoders.config.text_config.vocab_size
    for outside, dtype in ((vocabulary, np.int32), (1 << 40, np.int64), (-1, np.int32)):
        ids = np.zeros(SHAPE, dtype)
        ids[1, 2] = outside
        told = (
            rf"ids=.*\[0, {vocabulary}\).*from {min(outside, 0)} to {max(outside, 0)}"
        )
        with pytest.raises(ValueError, match=told):
            encoders.encode_text(ids)


def test_the_last_id_is_taken_and_arrays_on_the_device_are_left_alone(encoders):
    """To look at them would wait for the device, or fail where they are traced."""
    vocabulary = encoders.config.text_config.vocab_size
    ids = jnp.full(SHAPE, vocabulary + 5)
    last = np.full(SHAPE, vocabulary - 1, np.int32)
    expected = encoders.encode_text(last)
    np.testing.assert_array_equal(encoders.encode_text(ids), expected)
    shape = jax.eval_shape(encoders.encode_text, ids).shape
    assert shape == (4, encoders.dim)
