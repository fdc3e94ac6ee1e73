# SPDX-License-Identifier: Apache-2.0
"""Comparison with the rows that `make_goldens.py` stored."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import load_file

from jaxalign.encoders.checkpoint import load_model

FOLDER = Path(__file__).parent / "goldens"

# The bound that the project promises against transformers: unit rows, float32.
MAX_ABS = 2e-5


def load(variant):
    """Return the model of a variant and its stored inputs and rows."""
    graph, state, _ = load_model(FOLDER / variant)
    return nnx.merge(graph, state), load_file(FOLDER / variant / "io.safetensors")


def features(model, stored):
    """Return the model's features for the stored inputs, by name of the stored rows."""
    graph, state = nnx.split(model)

    def run(state, pixels, ids, mask):
        model = nnx.merge(graph, state)
        return {
            "image_rows": model.image_features(pixels),
            "text_rows": model.text_features(ids),
            "masked_text_rows": model.text_features(ids, mask),
        }

    inputs = (jnp.asarray(stored[name]) for name in ("pixels", "ids", "mask"))
    return jax.jit(run)(state, *inputs)


def assert_same_rows(features, expected):
    """Compare directions in float64."""
    rows = np.asarray(features, np.float64)
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    assert rows.shape == expected.shape
    assert np.abs(rows - expected).max() <= MAX_ABS
    # The stored rows tell inputs apart, or the comparison would say nothing.
    assert (expected @ expected.T)[~np.eye(len(expected), dtype=bool)].max() < 0.999
