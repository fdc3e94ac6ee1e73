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

from jaxalign.encoders.configs import (
    TextConfig,
    VisionConfig,
    read_integer,
    text_config,
    vision_config,
)
from jaxalign.encoders.layers import (
    Dense,
    Embedding,
    LayerNorm,
    PatchEmbedding,
    Stack,
)
from jaxalign.encoders.projected import ProjectedTowers, prepend_class_token

LEGACY_EOS_ID = 2
"""Configs with this eos id pool at the largest id (the original CLIP's rule)."""


class ClipVision(nnx.Module):
    """CLIP's image tower, up to the pooled class token."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        width, epsilon = config.width, config.epsilon
        init = nnx.initializers.normal(0.02)
        self.class_token = nnx.Param(init(rngs.params(), (width,), jnp.float32))
        self.patches = PatchEmbedding(
            config.patch_size, width, use_bias=False, rngs=rngs
        )
        self.positions = Embedding(config.patches + 1, width, rngs=rngs)
        self.norm_in = LayerNorm(width, epsilon=epsilon)
        self.stack = Stack(config, rngs=rngs)
        self.norm_out = LayerNorm(width, epsilon=epsilon)

    def __call__(self, pixels: Float[Array, "n h w 3"]) -> Float[Array, "n d"]:
        """Return the normalised state of the class token."""
        tokens = prepend_class_token(self.class_token[...], self.patches(pixels))
        tokens = self.norm_in(tokens + self.positions.table[...][None])
        return self.norm_out(self.stack(tokens)[:, 0])


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
    """CLIP's two towers with their projections and temperature.

    Attributes:
      logit_scale: scalar; logits are `exp(logit_scale) * image @ text.T`.
    """

    def __init__(self, config: CLIPConfig, *, rngs: nnx.Rngs):
        vision, text = vision_config(config), text_config(config)
        self.vision = ClipVision(vision, rngs=rngs)
        self.text = ClipText(text, rngs=rngs)
        dim = read_integer(config, "projection_dim")
        self.image_projection = Dense(vision.width, dim, use_bias=False, rngs=rngs)
        # Only some OpenCLIP checkpoints have this bias; `CLIPConfig` knows of none.
        bias = bool(getattr(config, "text_projection_bias", False))
        self.text_projection = Dense(text.width, dim, use_bias=bias, rngs=rngs)
        self.logit_scale = nnx.Param(
            jnp.asarray(config.logit_scale_init_value, jnp.float32)
        )
