# SPDX-License-Identifier: Apache-2.0
"""Tiny models of every encoder family, and whole checkpoint folders of them."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx
from transformers import BertTokenizer, CLIPConfig, FlavaConfig, SiglipConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.flava.image_processing_pil_flava import FlavaImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import (
    SiglipImageProcessorPil,
)

from experiments.shipped_encoders import tokenizer_training as tokens
from jaxalign.encoders.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    abstract_model,
    save_model,
)
from jaxalign.encoders.families import find_family

FAMILIES = ("clip", "flava", "siglip")
WRITTEN = ("clip", "siglip")
"""Families that `save_model` writes."""
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
    if family == "flava":
        return BertTokenizer(_wordpieces(), model_max_length=max_length)
    return tokens.train_unigram(CORPUS, vocabulary_size=60, max_length=max_length)


def _wordpieces():
    """Return BERT's special tokens, the letters of `CORPUS` and its words, by id."""
    words = sorted({word for text in CORPUS for word in text.split()})
    letters = sorted(set("".join(words)))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    pieces += [f"##{letter}" for letter in letters]
    return {p: i for i, p in enumerate(dict.fromkeys([*pieces, *words]))}


def make_processor(family):
    """Make the family's image processor at the tiny size."""
    sides = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    if family == "clip":
        return CLIPImageProcessorPil(
            size={"shortest_edge": IMAGE_SIZE}, crop_size=sides
        )
    if family == "flava":
        return FlavaImageProcessorPil(size=sides, crop_size=sides)
    return SiglipImageProcessorPil(size=sides)


def make_config(family, *, vocabulary=64, dim=DIM, text=None, vision=None):
    """Make a config of two blocks a tower; `text` and `vision` replace settings."""
    ids = {"bos_token_id": tokens.BOS_ID, "eos_token_id": tokens.EOS_ID}
    text = {
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": TEXT_LENGTH,
        "pad_token_id": tokens.PAD_ID,
        **({"projection_size": dim} if family == "siglip" else {}),
        **({} if family == "flava" else ids),
        **(text or {}),
    }
    vision = {
        "hidden_size": dim,
        "intermediate_size": 28,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": IMAGE_SIZE,
        "patch_size": 4,
        **(vision or {}),
    }
    if family == "clip":
        return CLIPConfig(text_config=text, vision_config=vision, projection_dim=dim)
    if family == "flava":
        # The parts that jaxalign leaves unread, as small as they can be.
        part = {
            "hidden_size": 4,
            "intermediate_size": 4,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
        }
        return FlavaConfig(
            text_config=text,
            image_config={**vision, "vocab_size": 4},
            multimodal_config=part,
            image_codebook_config={"hidden_size": 4, "vocab_size": 4},
            hidden_size=4,
            projection_dim=dim,
        )
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


def tensor_name(config, parameter):
    """Return what a folder that `save` wrote calls one of our parameters."""
    family = find_family(config.model_type)
    (name,) = (r.tensor for r in family.rules(config) if r.parameter == parameter)
    return family.prefix + name


def image_key(config):
    """Return what a config calls the image tower's settings."""
    return "image_config" if config.model_type == "flava" else "vision_config"


def save(folder, state, config, *, dtype="float32"):
    """Write config and weights; of FLAVA as its released checkpoints are.

    Those are of `FlavaForPreTraining`: a prefix, and parts that jaxalign leaves unread.
    """
    if config.model_type in WRITTEN:
        save_model(folder, state, config, dtype=dtype)
        return
    family = find_family(config.model_type)
    values = {
        ".".join(map(str, path)): np.asarray(variable[...])
        for path, variable in nnx.to_flat_state(state)
    }
    tensors = {
        family.prefix + rule.tensor: np.array(
            rule.layout.write(values[rule.parameter]), dtype, order="C"
        )
        for rule in family.rules(config)
    }
    for name in family.unread:
        outside = name.endswith("head.") or name == "image_codebook."
        name = name + "weight" if name.endswith(".") else name
        tensors[name if outside else family.prefix + name] = np.ones((2, 3), dtype)
    Path(folder).mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tensors, Path(folder) / WEIGHTS_FILE)
    settings = {**config.to_dict(), "architectures": ["FlavaForPreTraining"]}
    (Path(folder) / CONFIG_FILE).write_text(json.dumps(settings))


def write_folder(
    folder, family, *, seed=0, dtype="float32", dim=DIM, length=TEXT_LENGTH
) -> Path:
    """Write a whole checkpoint folder: weights, image processor, tokenizer.

    Towers have one block: programs compile in half the time. The order of blocks is
    tested on models of `make_config` and on the stored ones.
    """
    tokenizer = make_tokenizer(family, max_length=length)
    config = make_config(
        family,
        vocabulary=len(tokenizer),
        dim=dim,
        text={"max_position_embeddings": length, "num_hidden_layers": 1},
        vision={"num_hidden_layers": 1},
    )
    save(folder, random_parameters(config, seed=seed)[1], config, dtype=dtype)
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
