# SPDX-License-Identifier: Apache-2.0
"""What CLIP and FLAVA share: a class token, and a projection on each tower."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jaxalign.encoders.layers import Dense


class ProjectedTowers(nnx.Module):
    """Two towers, each with a linear projection to one embedding space.

    Attributes:
      vision: from pixels to pooled states.
      text: from ids and a mask to pooled states.
      image_projection: of the image tower's states.
      text_projection: of the text tower's states.
    """

    vision: nnx.Module
    text: nnx.Module
    image_projection: Dense
    text_projection: Dense

    def image_features(self, pixels: Float[Array, "n h w 3"]) -> Float[Array, "n d"]:
        """Return projected image rows, not normalised."""
        return self.image_projection(self.vision(pixels))

    def text_features(
        self, ids: Int[Array, "n t"], mask: Bool[Array, "n t"] | None = None
    ) -> Float[Array, "n d"]:
        """Return projected text rows, not normalised."""
        return self.text_projection(self.text(ids, mask))


def prepend_class_token(
    token: Float[Array, " d"], patches: Float[Array, "n patches d"]
) -> Float[Array, "n tokens d"]:
    """Put one learnt token before the patches of each picture."""
    n, _, width = patches.shape
    first = jnp.broadcast_to(token, (n, 1, width))
    return jnp.concatenate([first, patches], axis=1)
