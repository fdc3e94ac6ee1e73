# SPDX-License-Identifier: Apache-2.0
"""Sizes of the towers, read from a `transformers` config as plain numbers.

transformers declares sizes as unions (a number, a pair, None) that checkpoints of these
families never use; here they become numbers, or one clear error.
"""

import dataclasses
from typing import Any

from transformers import FlavaConfig, PreTrainedConfig, SiglipConfig

from jaxalign.errors import check_count, check_number

_REMEDY = "check the checkpoint's config"


@dataclasses.dataclass(frozen=True)
class StackConfig:
    """Sizes of a stack of transformer blocks.

    Attributes:
      width: of the tokens.
      depth: number of blocks.
      heads: of the attention.
      hidden: width inside the MLP.
      activation: a key of `layers.ACTIVATIONS`.
      epsilon: of the layer norms.
      qkv_bias: whether queries, keys and values have biases.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    activation: str
    epsilon: float
    qkv_bias: bool


@dataclasses.dataclass(frozen=True)
class VisionConfig(StackConfig):
    """Sizes of an image tower.

    Attributes:
      image_size: pixels of either side.
      patch_size: pixels of either side of a patch.
    """

    image_size: int
    patch_size: int

    @property
    def patches(self) -> int:
        """Number of whole patches in a picture."""
        return (self.image_size // self.patch_size) ** 2


@dataclasses.dataclass(frozen=True)
class TextConfig(StackConfig):
    """Sizes of a text tower.

    Attributes:
      vocabulary: number of token ids.
      length: most tokens of a text.
      eos_id: id of the end-of-text token; None for models that pool elsewhere.
    """

    vocabulary: int
    length: int
    eos_id: int | None


def vision_config(config: PreTrainedConfig) -> VisionConfig:
    """Read the image tower's sizes from a model's config.

    Raises:
      ValueError: if a size is not a whole number of at least 1.
    """
    is_flava = isinstance(config, FlavaConfig)
    tower = config.image_config if is_flava else config.vision_config
    return VisionConfig(
        **_stack_sizes(tower),
        image_size=read_integer(tower, "image_size"),
        patch_size=read_integer(tower, "patch_size"),
    )


def text_config(config: PreTrainedConfig) -> TextConfig:
    """Read the text tower's sizes from a model's config.

    Raises:
      ValueError: if a size is not a whole number of at least 1.
    """
    tower = config.text_config
    return TextConfig(
        **_stack_sizes(tower),
        vocabulary=read_integer(tower, "vocab_size"),
        length=read_integer(tower, "max_position_embeddings"),
        # SigLIP pools at the last position, FLAVA at the first.
        eos_id=None
        if isinstance(config, FlavaConfig | SiglipConfig)
        else read_integer(tower, "eos_token_id", least=0),
    )


def _stack_sizes(tower: Any) -> dict[str, Any]:
    return {
        "width": read_integer(tower, "hidden_size"),
        "depth": read_integer(tower, "num_hidden_layers"),
        "heads": read_integer(tower, "num_attention_heads"),
        "hidden": read_integer(tower, "intermediate_size"),
        "activation": str(tower.hidden_act),
        "epsilon": check_number(
            "config.json",
            "layer_norm_eps",
            getattr(tower, "layer_norm_eps", None),
            least=0.0,
            below=1.0,
            remedy=_REMEDY,
        ),
        "qkv_bias": bool(getattr(tower, "qkv_bias", True)),
    }


def read_integer(tower: Any, name: str, *, least: int = 1) -> int:
    """Read one whole number of a config.

    Raises:
      ValueError: if it is missing, not a whole number, or less than `least`.
    """
    value = getattr(tower, name, None)
    return check_count("config.json", name, value, least=least, remedy=_REMEDY)
