# SPDX-License-Identifier: Apache-2.0
"""Live comparison of every block's output with that of `transformers`.

Left out by default, like `test_parity.py`. Where rows differ, this says from which
block on.
"""

import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from flax import nnx

from jaxalign.encoders import layers
from jaxalign.encoders.checkpoint import load_model
from tests import tiny_encoders
from tests.encoders import goldens

pytestmark = pytest.mark.parity


def _blocks_of(model, modality):
    """The torch modules that are blocks of one tower, first to last."""
    if model.config.model_type == "flava":
        return getattr(model, f"{modality}_model").encoder.layer
    tower = model.vision_model if modality == "image" else model.text_model
    return tower.encoder.layers


def _recorded(monkeypatch):
    """Make our blocks put what they give into a list."""
    states = []
    call = layers.Block.__call__

    def recording(self, x, mask=None):
        states.append(call(self, x, mask))
        return states[-1]

    monkeypatch.setattr(layers.Block, "__call__", recording)
    return states


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("family", tiny_encoders.FAMILIES)
def test_every_block_gives_the_states_of_transformers(
    family, modality, tmp_path, monkeypatch
):
    import torch

    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 3}
    config = tiny_encoders.make_config(family, text=sizes, vision=sizes)
    theirs = transformers.AutoModel.from_config(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    theirs.save_pretrained(tmp_path)
    expected = []
    for block in _blocks_of(theirs, modality):
        block.register_forward_hook(
            lambda *arguments: expected.append(arguments[-1]), with_kwargs=False
        )
    graph, state, _ = load_model(tmp_path)
    ours, states = nnx.merge(graph, state), _recorded(monkeypatch)
    pixels, ids = tiny_encoders.random_pixels(2), tiny_encoders.random_ids(2)
    with torch.no_grad():
        if modality == "image":
            planes = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
            theirs.get_image_features(pixel_values=planes)
            ours.image_features(jnp.asarray(pixels))
        else:
            theirs.get_text_features(input_ids=torch.from_numpy(ids.astype(np.int64)))
            ours.text_features(jnp.asarray(ids))
    assert len(states) == len(expected) == 3
    for number, (found, state) in enumerate(zip(states, expected, strict=True)):
        state = state[0] if isinstance(state, tuple) else state
        # States are of any size, rows of size one: the bound goes with the size.
        bound = goldens.MAX_ABS * float(state.abs().max())
        error = np.abs(np.asarray(found) - state.numpy()).max()
        assert error <= bound, f"block {number} of the {modality} tower"
