# SPDX-License-Identifier: Apache-2.0
"""SigLIP: a vision transformer pooled by attention, a bidirectional text transformer.

The image embedding is the pooling head's output itself; texts are pooled at the last
position, so they are padded to a fixed length and no padding mask is used. Parameter
names and configs follow `transformers.SiglipModel`, with which the rows agree.

SigLIP 2 of fixed resolution is the same model with another tokenizer and other weights.

References: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023,
arXiv 2303.15343; Tschannen et al., "SigLIP 2: Multilingual Vision-Language Encoders
with Improved Semantic Understanding, Localization, and Dense Features", 2025,
arXiv 2502.14786.
"""

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from transformers import SiglipConfig

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
    Mlp,
    PatchEmbedding,
    Stack,
    attend,
)
from jaxalign.errors import ArgumentError


class AttentionPooling(nnx.Module):
    """Pool tokens by attention from one learnt probe, then a residual MLP.

    Attributes:
      probe: (width,).
      project: the query, key and value projections side by side, (width, 3 width).
    """

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.heads = config.heads
        init = nnx.initializers.normal(0.02)
        self.probe = nnx.Param(init(rngs.params(), (width,), jnp.float32))
        self.project = Dense(width, 3 * width, rngs=rngs)
        self.out = Dense(width, width, rngs=rngs)
        self.norm = LayerNorm(width, epsilon=config.epsilon)
        self.mlp = Mlp(config, rngs=rngs)

    def __call__(self, tokens: Float[Array, "n t d"]) -> Float[Array, "n d"]:
        """Return one pooled row for each picture."""
        n, _, width = tokens.shape
        projected = self.project(tokens)
        key, value = projected[..., width : 2 * width], projected[..., 2 * width :]
        query = self.project(self.probe[...][None])[:, :width]
        query = jnp.broadcast_to(query[None], (n, 1, width))
        pooled = self.out(attend(query, key, value, heads=self.heads))
        return (pooled + self.mlp(self.norm(pooled)))[:, 0]


class SiglipVision(nnx.Module):
    """SigLIP's image tower with its pooling head."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.patches = PatchEmbedding(
            config.patch_size, width, use_bias=True, rngs=rngs
        )
        self.positions = Embedding(config.patches, width, rngs=rngs)
        self.stack = Stack(config, rngs=rngs)
        self.norm_out = LayerNorm(width, epsilon=config.epsilon)
        self.pool = AttentionPooling(config, rngs=rngs)

    def __call__(self, pixels: Float[Array, "n h w 3"]) -> Float[Array, "n d"]:
        """Return the pooled image rows."""
        tokens = self.patches(pixels) + self.positions.table[...][None]
        return self.pool(self.norm_out(self.stack(tokens)))


class SiglipText(nnx.Module):
    """SigLIP's text tower with its output layer."""

    def __init__(self, config: TextConfig, dim: int, *, rngs: nnx.Rngs):
        width = config.width
        self.tokens = Embedding(config.vocabulary, width, rngs=rngs)
        self.positions = Embedding(config.length, width, rngs=rngs)
        self.stack = Stack(config, rngs=rngs)
        self.norm_out = LayerNorm(width, epsilon=config.epsilon)
        self.head = Dense(width, dim, rngs=rngs)

    def __call__(
        self, ids: Int[Array, "n t"], mask: Bool[Array, "n t"] | None = None
    ) -> Float[Array, "n d"]:
        """Return the projected state of the last position.

        Args:
          ids: (n, t) token ids, padded to the model's fixed length.
          mask: (n, t), False where no token may look. The released models are used
            without one: padding is seen.

        Returns:
          (n, dim) rows.
        """
        states = self.tokens(ids) + self.positions.table[: ids.shape[1]][None]
        visible = None if mask is None else mask[:, None, :]
        states = self.norm_out(self.stack(states, visible))
        return self.head(states[:, -1])


class Siglip(nnx.Module):
    """SigLIP's two towers with temperature and bias.

    Attributes:
      logit_scale: scalar; logits are `exp(logit_scale) * image @ text.T + logit_bias`.
      logit_bias: scalar.
    """

    def __init__(self, config: SiglipConfig, *, rngs: nnx.Rngs):
        # Older versions of the config do not declare it.
        if not getattr(config.vision_config, "vision_use_head", True):
            # transformers' image features of such a model are None.
            expected = "vision_use_head to be true"
            got = "false: a tower without pooling head gives no image embedding"
            remedy = "use the checkpoint of the whole image-text model"
            raise ArgumentError("config.json", expected, got, remedy)
        vision, text = vision_config(config), text_config(config)
        dim = text.width
        if getattr(config.text_config, "projection_size", None) is not None:
            dim = read_integer(config.text_config, "projection_size")
        if dim != vision.width:
            expected = f"texts of the pictures' width {vision.width}"
            remedy = "check hidden_size of both towers, and projection_size"
            raise ArgumentError("config.json", expected, dim, remedy)
        self.vision = SiglipVision(vision, rngs=rngs)
        self.text = SiglipText(text, dim, rngs=rngs)
        # Zhai et al. 2023, section 3.2: temperature 10 and bias -10 at the start.
        self.logit_scale = nnx.Param(jnp.asarray(math.log(10.0), jnp.float32))
        self.logit_bias = nnx.Param(jnp.asarray(-10.0, jnp.float32))

    def image_features(self, pixels: Float[Array, "n h w 3"]) -> Float[Array, "n d"]:
        """Return image rows, not normalised."""
        return self.vision(pixels)

    def text_features(
        self, ids: Int[Array, "n t"], mask: Bool[Array, "n t"] | None = None
    ) -> Float[Array, "n d"]:
        """Return text rows, not normalised."""
        return self.text(ids, mask)
