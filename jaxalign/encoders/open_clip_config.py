# SPDX-License-Identifier: Apache-2.0
"""`open_clip_config.json` as the config of the same model in transformers.

OpenCLIP describes many models by one set of settings. Those of a plain CLIP become a
`CLIPConfig`; any setting that makes another model raises an error that names it.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import CLIPConfig

from jaxalign.encoders.checkpoint import read_object
from jaxalign.encoders.clip import LEGACY_EOS_ID
from jaxalign.encoders.damage import damaged
from jaxalign.encoders.quiet import quiet_transformers
from jaxalign.errors import ArgumentError, check_count

OPEN_CLIP_CONFIG = "open_clip_config.json"

# What sizes a tower, with OpenCLIP's defaults.
_VISION_SIZES = {
    "image_size": 224,
    "patch_size": 16,
    "width": 768,
    "layers": 12,
    "head_width": 64,
}
_TEXT_SIZES = {
    "context_length": 77,
    "vocab_size": 49408,
    "width": 512,
    "layers": 12,
    "heads": 8,
}
_MLP_RATIO = 4.0

# Settings whose one value a plain CLIP has; another value is another model.
_PLAIN = {
    "vision_cfg": {
        "pool_type": ("tok",),
        "block_type": ("default",),
        # Either table is stored among the tensors.
        "pos_embed_type": ("learnable", "sin_cos_2d"),
    },
    "text_cfg": {
        "pool_type": ("argmax",),
        "block_type": ("default",),
        "proj_type": ("linear",),
    },
}
# Settings that change no row of a plain CLIP: of training, of logits, of what else is
# returned, or of parts that are absent (their own switches are not listed here).
_INERT = {
    "model_cfg": (
        "init_logit_scale",
        "init_logit_bias",
        "nonscalar_logit_scale",
        "cast_dtype",
        "output_dict",
    ),
    "vision_cfg": (
        "patch_dropout",
        "output_tokens",
        "attn_pooler_queries",
        "attn_pooler_heads",
        "n_queries",
        "timm_model_pretrained",
        "timm_pool",
        "timm_proj",
        "timm_proj_bias",
        "timm_drop",
        "timm_drop_path",
    ),
    "text_cfg": (
        "output_tokens",
        "pad_id",
        "eos_id",
        "hf_tokenizer_name",
        "hf_model_pretrained",
        "hf_proj_type",
        "hf_pooler_type",
    ),
}


@dataclasses.dataclass(frozen=True)
class OpenClipSettings:
    """Settings of a folder's `open_clip_config.json`.

    Attributes:
      model: the config of the same model in transformers. Its end-of-text id is the one
        that pools at the largest id, as OpenCLIP does; `text_projection_bias`, which
        transformers does not know, is set where OpenCLIP's `proj_bias` is.
      custom_text: whether the text tower's tensors have names of their own.
      preprocess: `preprocess_cfg`, or None if there is none.
    """

    model: CLIPConfig
    custom_text: bool
    preprocess: dict[str, Any] | None


def read_settings(folder: str | os.PathLike) -> OpenClipSettings:
    """Read a folder's `open_clip_config.json`.

    Raises:
      ValueError: if the file is damaged, or tells of a model that is no plain CLIP; all
        settings that make it another are named.
    """
    path = Path(folder) / OPEN_CLIP_CONFIG
    values = read_object(path)
    model = _section(path, values, "model_cfg")
    given = values.get("preprocess_cfg") is not None
    return OpenClipSettings(
        model=_model_config(path, model),
        custom_text=bool(model.get("custom_text")),
        preprocess=_section(path, values, "preprocess_cfg") if given else None,
    )


def _model_config(path: Path, model: Mapping[str, Any]) -> CLIPConfig:
    """Translate `model_cfg`."""
    vision = _section(path, model, "vision_cfg", "model_cfg.")
    text = _section(path, model, "text_cfg", "model_cfg.")
    _check_is_plain(path, model, vision, text)
    dim = _integer(path, model, "embed_dim", "model_cfg.")
    shared = {
        "hidden_act": "quick_gelu" if model.get("quick_gelu") else "gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": dim,
    }
    vision_sizes = _sizes(path, vision, "vision_cfg", _VISION_SIZES)
    text_sizes = _sizes(path, text, "text_cfg", _TEXT_SIZES)
    heads = vision_sizes["width"] // vision_sizes["head_width"]
    for name, tower, count in (
        ("vision_cfg.head_width", vision_sizes, heads),
        ("text_cfg.heads", text_sizes, text_sizes["heads"]),
    ):
        if count == 0 or tower["width"] % count:
            expected = f"a divisor of the width, {tower['width']}"
            got = tower[name.rsplit(".", 1)[-1]]
            raise _wrong(path, f"model_cfg.{name}", expected, got)
    values = {
        "projection_dim": dim,
        "text_projection_bias": bool(text.get("proj_bias")),
        "vision_config": {
            **shared,
            "hidden_size": vision_sizes["width"],
            "intermediate_size": vision_sizes["hidden"],
            "num_hidden_layers": vision_sizes["layers"],
            "num_attention_heads": heads,
            "image_size": vision_sizes["image_size"],
            "patch_size": vision_sizes["patch_size"],
        },
        "text_config": {
            **shared,
            "hidden_size": text_sizes["width"],
            "intermediate_size": text_sizes["hidden"],
            "num_hidden_layers": text_sizes["layers"],
            "num_attention_heads": text_sizes["heads"],
            "max_position_embeddings": text_sizes["context_length"],
            "vocab_size": text_sizes["vocab_size"],
            "eos_token_id": LEGACY_EOS_ID,
        },
    }
    with quiet_transformers():  # which expects a vocabulary that holds its default ids
        return CLIPConfig.from_dict(values)


def _check_is_plain(
    path: Path,
    model: Mapping[str, Any],
    vision: Mapping[str, Any],
    text: Mapping[str, Any],
) -> None:
    """Raise one error that names every setting of another model than plain CLIP."""
    read = {
        "model_cfg": (
            "embed_dim",
            "quick_gelu",
            "custom_text",
            "vision_cfg",
            "text_cfg",
        ),
        "vision_cfg": (*_VISION_SIZES, "mlp_ratio"),
        "text_cfg": (*_TEXT_SIZES, "mlp_ratio", "proj_bias"),
    }
    sections = {"model_cfg": model, "vision_cfg": vision, "text_cfg": text}
    found = [
        f"{section}.{name} = {json.dumps(value)}"
        for section, settings in sections.items()
        for name, value in settings.items()
        # Settings that are off or empty have no effect.
        if value
        and name not in read[section]
        and name not in _INERT[section]
        and value not in _PLAIN.get(section, {}).get(name, ())
    ]
    if isinstance(vision.get("layers"), list):  # a ModifiedResNet
        found.append(f"vision_cfg.layers = {json.dumps(vision['layers'])}")
    if found:
        raise damaged(
            path,
            "a plain CLIP (a vision transformer with a class token, a causal text "
            "transformer pooled at the largest id)",
            "; ".join(found),
            "jaxalign reads no other OpenCLIP models: take one whose config has none "
            "of these, or this model's transformers checkpoint if there is one",
        )


def _section(
    path: Path, settings: Mapping[str, Any], name: str, within: str = ""
) -> dict[str, Any]:
    section = settings.get(name)
    if not isinstance(section, dict):
        raise _wrong(path, f"{within}{name}", "a JSON object", section)
    return section


def _sizes(
    path: Path, settings: Mapping[str, Any], section: str, defaults: Mapping[str, int]
) -> dict[str, int]:
    """Return a tower's sizes, the MLP's inner width among them as `hidden`."""
    within = f"model_cfg.{section}."
    sizes = {
        name: _integer(path, {name: default, **settings}, name, within)
        for name, default in defaults.items()
    }
    ratio = settings.get("mlp_ratio", _MLP_RATIO)
    is_number = isinstance(ratio, int | float) and not isinstance(ratio, bool)
    if not is_number or int(sizes["width"] * ratio) < 1:
        raise _wrong(path, f"{within}mlp_ratio", "a positive number", ratio)
    return {**sizes, "hidden": int(sizes["width"] * ratio)}


def _integer(path: Path, settings: Mapping[str, Any], name: str, within: str) -> int:
    remedy = f"download the checkpoint again, or mend {str(path)!r}"
    value = settings.get(name)
    return check_count(path.name, f"{within}{name}", value, remedy=remedy)


def _wrong(path: Path, name: str, expected: str, got: Any) -> ArgumentError:
    return damaged(path, f"{name} to be {expected}", json.dumps(got))
