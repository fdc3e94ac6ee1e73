# SPDX-License-Identifier: Apache-2.0
"""FLAVA: a vision transformer and a bidirectional text transformer with class tokens.

Only the parts that compare pictures with texts: both towers and their projections. The
rows are those of position 0 of `transformers.FlavaModel.get_image_features` and
`get_text_features`, which is what FLAVA's contrastive loss compares. The multimodal
encoder, and the heads of the other losses, take no part in them.

Reference: Singh et al., "FLAVA: A Foundational Language And Vision Alignment Model",
2022, arXiv 2112.04482.
"""

from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from transformers import FlavaConfig

from jaxalign.encoders.configs import (
    TextConfig,
    read_integer,
    text_config,
    vision_config,
)
from jaxalign.encoders.layers import Embedding, LayerNorm, Stack
from jaxalign.encoders.projected import ClassTokenVision, ProjectedTowers


class FlavaText(nnx.Module):
    """FLAVA's text tower, up to the class token, which the tokenizer puts first.

    Attributes:
      types: one row for each segment of a text in two segments; ours have one.
    """

    def __init__(self, config: TextConfig, types: int, *, rngs: nnx.Rngs):
        width, epsilon = config.width, config.epsilon
        self.tokens = Embedding(config.vocabulary, width, rngs=rngs)
        self.positions = Embedding(config.length, width, rngs=rngs)
        self.types = Embedding(types, width, rngs=rngs)
        self.norm_in = LayerNorm(width, epsilon=epsilon)
        self.stack = Stack(config, rngs=rngs)
        self.norm_out = LayerNorm(width, epsilon=epsilon)

    def __call__(
        self, ids: Int[Array, "n t"], mask: Bool[Array, "n t"] | None = None
    ) -> Float[Array, "n d"]:
        """Return the normalised state of the first token.

        Args:
          ids: (n, t) token ids.
          mask: (n, t), False at padding, which no token may see; without one, all is
            seen.

        Returns:
          (n, width) states.
        """
        rows = self.positions.table[: ids.shape[1]] + self.types.table[:1]
        states = self.norm_in(self.tokens(ids) + rows[None])
        visible = None if mask is None else mask[:, None, :]
        return self.norm_out(self.stack(states, visible)[:, 0])


class Flava(ProjectedTowers):
    """FLAVA's two towers with their projections and temperature."""

    def __init__(self, config: FlavaConfig, *, rngs: nnx.Rngs):
        types = read_integer(config.text_config, "type_vocab_size")
        super().__init__(
            config,
            ClassTokenVision(
                vision_config(config), patch_bias=True, norm_in=False, rngs=rngs
            ),
            FlavaText(text_config(config), types, rngs=rngs),
            image_bias=True,
            text_bias=True,
            rngs=rngs,
        )
