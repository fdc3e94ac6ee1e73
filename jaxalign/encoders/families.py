# SPDX-License-Identifier: Apache-2.0
"""The encoder families: a config's model type -> model class and rule table."""

import dataclasses
from collections.abc import Callable
from typing import Any

from transformers import CLIPConfig, FlavaConfig, PreTrainedConfig, SiglipConfig

from jaxalign.encoders.clip import Clip
from jaxalign.encoders.flava import Flava
from jaxalign.encoders.rules import (
    FLAVA_PREFIX,
    FLAVA_UNREAD,
    Rule,
    clip_rules,
    flava_rules,
    siglip_rules,
)
from jaxalign.encoders.siglip import Siglip
from jaxalign.errors import check_option


@dataclasses.dataclass(frozen=True)
class Family:
    """Builder and storage format of one family.

    Attributes:
      config: the class of its config.
      architecture: what `config.json` calls the model's class.
      build: makes the model from a config and random keys.
      rules: makes the rule table from a config.
      masks_padding: whether texts are encoded with their padding mask. Then padding
        changes no row, and a tokenizer may cut texts at less than all positions.
      causal_text: whether a token sees only those before it. Then padding at the end
        changes no row either.
      prefix: what models that hold this one put before its tensors' names.
      unread: beginnings of the names of tensors that are left unread on purpose, the
        prefix taken off. A family that has some can be read, but not be written.
    """

    config: type[PreTrainedConfig]
    architecture: str
    build: Callable[..., Any]
    rules: Callable[[Any], list[Rule]]
    masks_padding: bool = False
    causal_text: bool = False
    prefix: str = ""
    unread: tuple[str, ...] = ()


FAMILIES = {
    "clip": Family(CLIPConfig, "CLIPModel", Clip, clip_rules, causal_text=True),
    "flava": Family(
        FlavaConfig,
        "FlavaModel",
        Flava,
        flava_rules,
        masks_padding=True,
        prefix=FLAVA_PREFIX,
        unread=FLAVA_UNREAD,
    ),
    "siglip": Family(SiglipConfig, "SiglipModel", Siglip, siglip_rules),
}


# What to use instead of models of other families.
_REMEDIES = {
    "siglip2": "that is SigLIP 2 with variable resolution (NaFlex); use one of fixed "
    "resolution, such as google/siglip2-base-patch16-224, which is of 'siglip'",
}


def find_family(model_type: str) -> Family:
    """Return the family of a config's `model_type`.

    Raises:
      ValueError: if jaxalign does not read this family; those that it reads are named.
    """
    known = "jaxalign reads image-text models of these families"
    remedy = _REMEDIES.get(model_type, known)
    check_option("config.json", "model_type", model_type, FAMILIES, remedy=remedy)
    return FAMILIES[model_type]
