# SPDX-License-Identifier: Apache-2.0
"""CLIP gives the stored rows of `transformers`, and pools where the config says."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny_encoders
from tests.encoders import goldens

VARIANTS = ("clip-quick-gelu", "clip-gelu-legacy-eos")


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_equal_the_goldens(variant):
    model, stored = goldens.load(variant)
    features = goldens.features(model, stored)
    for name, rows in features.items():
        goldens.assert_same_rows(rows, stored[name])


def test_tokens_after_the_first_end_change_nothing():
    model = tiny_encoders.make_model(tiny_encoders.make_config("clip"))
    ids = tiny_encoders.random_ids(2)
    ids[:, 5] = 1
    changed = ids.copy()
    changed[:, 6:] = 7
    changed[0, 8] = 1
    rows = [model.text_features(jnp.asarray(i)) for i in (ids, changed)]
    np.testing.assert_array_equal(*map(np.asarray, rows))
    changed[:, 4] = ids[:, 4] + 1
    other = model.text_features(jnp.asarray(changed))
    assert np.abs(np.asarray(other) - np.asarray(rows[0])).max(-1).min() > 1e-3


def test_the_legacy_end_id_pools_at_the_largest_id():
    config = tiny_encoders.make_config("clip", text=dict(eos_token_id=2))
    model = tiny_encoders.make_model(config)
    ids = np.full((2, tiny_encoders.TEXT_LENGTH), 5, np.int32)
    ids[:, 3] = 60
    ids[1, 4:] = 9
    rows = np.asarray(model.text_features(jnp.asarray(ids)))
    np.testing.assert_array_equal(rows[0], rows[1])
