# SPDX-License-Identifier: Apache-2.0
"""OpenCLIP folders: `open_clip_config.json` and `open_clip_model.safetensors`.

OpenCLIP's plain CLIP (a vision transformer with a class token, a causal text tower
pooled at the largest id) is the model of `clip.py` under other names. So its settings
become a `CLIPConfig`, its tensors the same parameters, and the same weights give the
same rows from either kind of folder. Other models of OpenCLIP raise an error.

Strings go through the folder's tokenizer files, as in transformers. OpenCLIP's own
tokenizer first repairs texts (typographic quotes, ligatures, HTML entities, mojibake);
texts with nothing to repair get the same ids up to the end of text.

Reference: Cherti et al., "Reproducible scaling laws for contrastive language-image
learning", 2023, arXiv 2212.07143.
"""

import json
import os
from pathlib import Path

from jaxalign.encoders.checkpoint import CONFIG_FILE, Checkpoint, abstract_model
from jaxalign.encoders.families import FAMILIES, find_family
from jaxalign.encoders.open_clip_config import OPEN_CLIP_CONFIG, read_settings
from jaxalign.encoders.open_clip_preprocessing import OpenClipImagePreprocessor
from jaxalign.encoders.rules import SAME, SCALAR, open_clip_rules
from jaxalign.encoders.weights_file import WEIGHTS_FILE, read_tensors

OPEN_CLIP_WEIGHTS = "open_clip_model.safetensors"

# Tensors that change no row: a mask that follows from the length, and a bias of logits.
_PASSED_OVER = ("attn_mask", "text.attn_mask", "logit_bias")


def is_open_clip(folder: str | os.PathLike) -> bool:
    """Tell whether a folder is to be read as OpenCLIP's.

    It is if it has `open_clip_config.json`, unless it holds a whole transformers
    checkpoint too: hub repositories often have both, of the same weights.
    """
    folder = Path(folder)
    if not (folder / OPEN_CLIP_CONFIG).is_file():
        return False
    weights = (WEIGHTS_FILE, f"{WEIGHTS_FILE}.index.json")
    if not any((folder / name).is_file() for name in weights):
        return True
    return not has_known_config(folder)


def has_known_config(folder: Path) -> bool:
    """Tell whether a folder's `config.json` is of a family that jaxalign knows.

    That of timm, in repositories that it shares with OpenCLIP, is not.
    """
    try:
        values = json.loads((folder / CONFIG_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values.get("model_type") in [*FAMILIES]


def read_open_clip(folder: str | os.PathLike) -> Checkpoint:
    """Map an OpenCLIP folder as `checkpoint.read_checkpoint` maps a transformers one.

    Args:
      folder: with `open_clip_config.json` and `open_clip_model.safetensors`.

    Returns:
      A checkpoint of the family "clip".

    Raises:
      ValueError: see `open_clip_config.read_settings` and `weights_file.read_tensors`.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    model = abstract_model(find_family("clip"), settings.model)
    tensors = {
        name: tensor
        for name, tensor in read_tensors(folder, OPEN_CLIP_WEIGHTS).items()
        if name not in _PASSED_OVER
    }
    # Files from before OpenCLIP had text towers of their own name them as `CLIP` does.
    nested = settings.custom_text and "token_embedding.weight" not in tensors
    scale = tensors.get("logit_scale")
    rules = open_clip_rules(
        settings.model,
        text="text." if nested else "",
        scale=SAME if scale is None or scale.shape == () else SCALAR,
    )
    return Checkpoint(
        settings.model, model, tensors, rules, repr(str(folder)), OPEN_CLIP_CONFIG
    )


def open_clip_image_preprocessor(
    folder: str | os.PathLike, *, image_size: int
) -> OpenClipImagePreprocessor | None:
    """Return the preprocessing of an OpenCLIP folder, or None if it has none.

    Raises:
      ValueError: if `preprocess_cfg` holds what OpenCLIP would not take, or a way of
        resizing that jaxalign has not.
    """
    settings = read_settings(folder).preprocess
    if settings is None:
        return None
    where = str(Path(folder) / OPEN_CLIP_CONFIG)
    return OpenClipImagePreprocessor(settings, image_size=image_size, where=where)
