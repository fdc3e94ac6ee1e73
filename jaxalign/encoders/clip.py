# SPDX-License-Identifier: Apache-2.0
"""CLIP: a vision transformer with a class token, a causal text transformer.

Both towers end in a linear projection to one embedding space. Parameter
names and configs follow `transformers.CLIPModel`, with which the rows agree.

Reference: Radford et al., "Learning Transferable Visual Models From Natural Language
Supervision", 2021, arXiv 2103.00020.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from transformers import CLIPConfig

from jaxalign.encoders.configs import TextConfig, text_config, vision_config
from jaxalign.encoders.layers import Embedding, LayerNorm, Stack
from jaxalign.encoders.projected import ClassTokenVision, ProjectedTowers

LEGACY_EOS_ID = 2
"""Configs with this eos id pool at the largest id (the original CLIP's rule)."""


class ClipText(nnx.Module):
    """CLIP's text tower, up to the pooled end-of-text token."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.eos_id = config.eos_id
        self.tokens = Embedding(config.vocabulary, width, rngs=rngs)
        self.positions = Embedding(config.length, width, rngs=rngs)
        self.stack = Stack(config, rngs=rngs)
        self.norm_out = LayerNorm(width, epsilon=config.epsilon)

    def __call__(
        self, ids: Int[Array, "n t"], mask: Bool[Array, "n t"] | None = None
    ) -> Float[Array, "n d"]:
        """Return the state of the first end-of-text token.

        Args:
          ids: (n, t) token ids.
          mask: (n, t), False at padding; causality alone already hides padding that
            follows the end-of-text token.

        Returns:
          (n, width) normalised states.
        """
        length = ids.shape[1]
        states = self.tokens(ids) + self.positions.table[:length][None]
        visible = jnp.tril(jnp.ones((1, length, length), bool))
        if mask is not None:
            visible = visible & mask[:, None, :]
        states = self.norm_out(self.stack(states, visible))
        if self.eos_id == LEGACY_EOS_ID:
            last = jnp.argmax(ids, axis=1)
        else:
            last = jnp.argmax(ids == self.eos_id, axis=1)
        return jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0]


class Clip(ProjectedTowers):
    """CLIP's two towers with their projections and temperature."""

    def __init__(self, config: CLIPConfig, *, rngs: nnx.Rngs):
        super().__init__(
            config,
            ClassTokenVision(
                vision_config(config), patch_bias=False, norm_in=True, rngs=rngs
            ),
            ClipText(text_config(config), rngs=rngs),
            image_bias=False,
            # Only some OpenCLIP checkpoints have it; `CLIPConfig` has no such setting.
            text_bias=bool(getattr(config, "text_projection_bias", False)),
            rngs=rngs,
        )
