# SPDX-License-Identifier: Apache-2.0
"""Parts shared by CLIP and FLAVA: a class token, and a projection on each tower."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from transformers import CLIPConfig, FlavaConfig

from jaxalign.encoders.configs import (
    VisionConfig,
    read_integer,
    text_config,
    vision_config,
)
from jaxalign.encoders.layers import Dense, Embedding, LayerNorm, PatchEmbedding, Stack


class ProjectedTowers(nnx.Module):
    """Two towers, each with a linear projection to one embedding space.

    Attributes:
      vision: from pixels to pooled states.
      text: from ids and a mask to pooled states.
      image_projection: of the image tower's states.
      text_projection: of the text tower's states.
      logit_scale: scalar; logits are `exp(logit_scale) * image @ text.T`.
    """

    def __init__(
        self,
        config: CLIPConfig | FlavaConfig,
        vision: nnx.Module,
        text: nnx.Module,
        *,
        image_bias: bool,
        text_bias: bool,
        rngs: nnx.Rngs,
    ):
        self.vision, self.text = vision, text
        widths = vision_config(config).width, text_config(config).width
        dim = read_integer(config, "projection_dim")
        self.image_projection = Dense(widths[0], dim, use_bias=image_bias, rngs=rngs)
        self.text_projection = Dense(widths[1], dim, use_bias=text_bias, rngs=rngs)
        self.logit_scale = nnx.Param(
            jnp.asarray(config.logit_scale_init_value, jnp.float32)
        )

    def image_features(self, pixels: Float[Array, "n h w 3"]) -> Float[Array, "n d"]:
        """Return projected image rows, not normalised."""
        return self.image_projection(self.vision(pixels))

    def text_features(
        self, ids: Int[Array, "n t"], mask: Bool[Array, "n t"] | None = None
    ) -> Float[Array, "n d"]:
        """Return projected text rows, not normalised."""
        return self.text_projection(self.text(ids, mask))


class ClassTokenVision(nnx.Module):
    """An image tower whose pooled state is that of a learnt class token.

    Attributes:
      class_token: (width,), put before the patches.
      norm_in: of the tokens before the blocks, as CLIP has; else None.
    """

    def __init__(
        self, config: VisionConfig, *, patch_bias: bool, norm_in: bool, rngs: nnx.Rngs
    ):
        width, epsilon = config.width, config.epsilon
        init = nnx.initializers.normal(0.02)
        self.class_token = nnx.Param(init(rngs.params(), (width,), jnp.float32))
        self.patches = PatchEmbedding(
            config.patch_size, width, use_bias=patch_bias, rngs=rngs
        )
        self.positions = Embedding(config.patches + 1, width, rngs=rngs)
        self.norm_in = LayerNorm(width, epsilon=epsilon) if norm_in else None
        self.stack = Stack(config, rngs=rngs)
        self.norm_out = LayerNorm(width, epsilon=epsilon)

    def __call__(self, pixels: Float[Array, "n h w 3"]) -> Float[Array, "n d"]:
        """Return the normalised state of the class token."""
        patches = self.patches(pixels)
        n, _, width = patches.shape
        first = jnp.broadcast_to(self.class_token[...], (n, 1, width))
        tokens = jnp.concatenate([first, patches], axis=1)
        tokens = tokens + self.positions.table[...][None]
        if self.norm_in is not None:
            tokens = self.norm_in(tokens)
        return self.norm_out(self.stack(tokens)[:, 0])
