# SPDX-License-Identifier: Apache-2.0
"""SigLIP gives the stored rows of `transformers`, and pools as it says."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny_encoders
from tests.encoders import goldens

VARIANTS = ("siglip", "siglip-projected")


def test_towers_of_two_widths_are_refused():
    config = tiny_encoders.make_config("siglip", vision={"hidden_size": 24})
    with pytest.raises(ValueError, match="hidden_size"):
        tiny_encoders.make_model(config)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_equal_the_goldens(variant):
    model, stored = goldens.load(variant)
    features = goldens.features(model, stored)
    for name, rows in features.items():
        goldens.assert_same_rows(rows, stored[name])


def test_every_position_is_seen_and_the_last_is_pooled():
    model = tiny_encoders.make_model(tiny_encoders.make_config("siglip"))
    ids = tiny_encoders.random_ids(1).repeat(tiny_encoders.TEXT_LENGTH, axis=0)
    changed = ids + np.eye(tiny_encoders.TEXT_LENGTH, dtype=np.int32)
    rows = np.asarray(model.text_features(jnp.asarray(ids)))
    others = np.asarray(model.text_features(jnp.asarray(changed)))
    assert np.abs(others - rows).max(-1).min() > 1e-3
