# SPDX-License-Identifier: Apache-2.0
"""Models for timings: random weights of released sizes, or toy ones."""

import json
import shutil
from pathlib import Path
from typing import Any

from flax import nnx

from jaxalign.encoders.checkpoint import save_model
from jaxalign.encoders.configs import vision_config
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.families import find_family
from jaxalign.encoders.hub import find_folder
from jaxalign.encoders.pretrained import load_encoders


def clip_config(*, patch: int = 32, tiny: bool = False) -> Any:
    """Return the config of CLIP ViT-B with patches of that side, or one of toy size."""
    make: Any = find_family("clip").config
    if tiny:
        small = dict(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
        )
        vision = dict(small, patch_size=patch // 4, image_size=32)
        tokens = dict(bos_token_id=0, eos_token_id=1, pad_token_id=1)
        text = dict(small, vocab_size=2048, max_position_embeddings=16, **tokens)
        return make(vision_config=vision, text_config=text)
    vision = dict(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        patch_size=patch,
        image_size=224,
    )
    return make(vision_config=vision)


def write_clip(folder: Path, config: Any) -> Encoders:
    """Write a random CLIP, CLIP's image preprocessing, a small tokenizer; load them."""
    model = find_family("clip").build(config, rngs=nnx.Rngs(0))
    save_model(folder, nnx.state(model), config)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(find_folder("jaxalign/openmoji-clip") / name, folder)
    size = vision_config(config).image_size
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "do_convert_rgb": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return load_encoders(folder)
