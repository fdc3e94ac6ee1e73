# SPDX-License-Identifier: Apache-2.0
"""Tiny models of every encoder family, and whole checkpoint folders of them."""

import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from transformers import CLIPConfig, SiglipConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import (
    SiglipImageProcessorPil,
)

from jaxalign.encoders import tokenizer_training as tokens
from jaxalign.encoders.checkpoint import abstract_model, save_model
from jaxalign.encoders.families import find_family

FAMILIES = ("clip", "siglip")
TEXT_LENGTH, IMAGE_SIZE, DIM = 12, 12, 20
CORPUS = [
    f"{article} {colour} {thing} {rest}"
    for article in ("a", "an emoji of the")
    for colour in ("red", "green", "blue", "dark")
    for thing in ("apple", "fish", "clock", "mountain", "smiling face")
    for rest in ("", "on a white background")
]


def make_tokenizer(family, *, max_length=TEXT_LENGTH):
    """Train the family's kind of tokenizer on `CORPUS`."""
    if family == "clip":
        return tokens.train_byte_bpe(CORPUS, vocabulary_size=300, max_length=max_length)
    return tokens.train_unigram(CORPUS, vocabulary_size=60, max_length=max_length)


def make_processor(family):
    """Make the family's image processor at the tiny size."""
    sides = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    if family == "clip":
        return CLIPImageProcessorPil(
            size={"shortest_edge": IMAGE_SIZE}, crop_size=sides
        )
    return SiglipImageProcessorPil(size=sides)


def make_config(family, *, vocabulary=64, text=None, vision=None):
    """Make a config of two blocks a tower; `text` and `vision` replace settings."""
    text = {
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": TEXT_LENGTH,
        "projection_size" if family == "siglip" else "projection_dim": DIM,
        "bos_token_id": tokens.BOS_ID,
        "eos_token_id": tokens.EOS_ID,
        "pad_token_id": tokens.PAD_ID,
        **(text or {}),
    }
    vision = {
        "hidden_size": DIM,
        "intermediate_size": 28,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": IMAGE_SIZE,
        "patch_size": 4,
        **(vision or {}),
    }
    if family == "clip":
        return CLIPConfig(text_config=text, vision_config=vision, projection_dim=DIM)
    return SiglipConfig(text_config=text, vision_config=vision)


def random_parameters(config, *, seed=0):
    """Return `(graph, state)` with every parameter drawn, biases and norms too."""
    rng = np.random.default_rng(seed)
    graph, shapes = abstract_model(find_family(config.model_type), config)
    flat = [
        (
            path,
            variable.replace(
                jnp.asarray(
                    rng.normal(path[-1] == "scale", 0.2, variable.shape), jnp.float32
                )
            ),
        )
        for path, variable in nnx.to_flat_state(shapes)
    ]
    return graph, nnx.from_flat_state(flat)


def make_model(config, *, seed=0):
    """Return a model with random parameters."""
    return nnx.merge(*random_parameters(config, seed=seed))


def write_folder(folder, family, *, seed=0, dtype="float32") -> Path:
    """Write a whole checkpoint folder: weights, image processor, tokenizer."""
    tokenizer = make_tokenizer(family)
    config = make_config(family, vocabulary=len(tokenizer))
    save_model(folder, random_parameters(config, seed=seed)[1], config, dtype=dtype)
    tokenizer.save_pretrained(folder)
    make_processor(family).save_pretrained(folder)
    return Path(folder)


def copy_folder(folder, to, *, without=()) -> Path:
    """Copy a folder, leaving some of its files out."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns(*without))
    return Path(to)


def pictures(count, *, seed=0, size=20):
    """Draw uint8 pictures."""
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def random_pixels(count, *, seed=0):
    """Draw preprocessed pictures."""
    rng = np.random.default_rng(seed)
    shape = (count, IMAGE_SIZE, IMAGE_SIZE, 3)
    return rng.standard_normal(shape).astype(np.float32)


def random_ids(count, *, vocabulary=32, seed=0):
    """Draw token ids, each text ending in the end token."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(3, vocabulary, (count, TEXT_LENGTH)).astype(np.int32)
    ids[:, -1] = tokens.EOS_ID
    return ids
