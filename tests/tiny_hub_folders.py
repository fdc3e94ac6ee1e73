# SPDX-License-Identifier: Apache-2.0
"""Tiny checkpoint folders with the files and settings of released ones.

`tiny_encoders.write_folder` writes folders as jaxalign does. Those of the hub differ:
tokenizers of other classes, image settings of older versions, configs of few keys.
"""

import json
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer, GemmaTokenizer, SiglipTokenizer

from jaxalign.encoders.checkpoint import CONFIG_FILE
from jaxalign.encoders.preprocessing import IMAGE_FILE, TOKENIZER_SETTINGS
from tests import tiny_encoders
from tests.tiny_encoders import CORPUS, IMAGE_SIZE

# The order is Gemma's: padding is 0, the end 1.
_GEMMA_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]


def write_siglip2(folder, *, tokenizer_class="GemmaTokenizer") -> Path:
    """Write what google/siglip2-base-patch16-224 is: a SigLIP with Gemma's tokenizer.

    Args:
      folder: to write to.
      tokenizer_class: what `tokenizer_config.json` names; "Siglip2Tokenizer" is the one
        that lower-cases.
    """
    tokenizer = GemmaTokenizer(
        *_gemma_pieces(),
        add_bos_token=False,
        add_eos_token=True,
        padding_side="right",
        model_input_names=["input_ids"],
    )
    settings = {
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "SiglipProcessor",
        "resample": 2,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    }
    # No ids of special tokens: the config's defaults lie outside a small vocabulary.
    unsaid = ("bos_token_id", "eos_token_id", "pad_token_id")
    _write(folder, "siglip", tokenizer, settings, unsaid=unsaid)
    edit_json(
        Path(folder) / TOKENIZER_SETTINGS,
        tokenizer_class=tokenizer_class,
        processor_class="SiglipProcessor",
        add_bos_token=False,
        add_eos_token=True,
    )
    return Path(folder)


def write_siglip(folder) -> Path:
    """Write what google/siglip-base-patch16-224 is: texts by a SentencePiece model."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    pieces = Path(folder) / "spiece"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_prefix=str(pieces),
        vocab_size=60,
        pad_id=-1,
        bos_id=-1,
        eos_id=1,
        unk_id=2,
        control_symbols=["<pad>"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    pieces.with_suffix(".vocab").unlink()
    tokenizer = SiglipTokenizer(
        str(pieces.with_suffix(".model")), model_max_length=64, pad_token="</s>"
    )
    settings = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "SiglipProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    }
    return _write(folder, "siglip", tokenizer, settings)


def write_clip(folder, *, with_tokenizer_json=True) -> Path:
    """Write what openai/clip-vit-base-patch32 is: `vocab.json`, `merges.txt`.

    Args:
      folder: to write to.
      with_tokenizer_json: whether `tokenizer.json` lies beside them, as in later
        revisions.
    """
    tokenizer = CLIPTokenizer(*_clip_pieces(), model_max_length=77)
    settings = {
        "crop_size": IMAGE_SIZE,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": IMAGE_SIZE,
    }
    # The end of text is the largest id, and pads; the config keeps to the legacy id 2.
    folder = _write(folder, "clip", tokenizer, settings, text={"eos_token_id": 2})
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    if not with_tokenizer_json:
        (folder / "tokenizer.json").unlink()
    return folder


def edit_json(path, **values) -> None:
    """Set keys of a JSON file, made if needed."""
    settings = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**settings, **values}))


def _write(folder, family, tokenizer, image_settings, *, unsaid=(), text=None) -> Path:
    folder = Path(folder)
    one_block = {"num_hidden_layers": 1}
    config = tiny_encoders.make_config(
        family,
        vocabulary=len(tokenizer),
        text={**one_block, **(text or {})},
        vision=one_block,
    )
    parameters = tiny_encoders.random_parameters(config)[1]
    tiny_encoders.save_model(folder, parameters, config)
    values = json.loads((folder / CONFIG_FILE).read_text())
    for name in unsaid:
        del values["text_config"][name]
    (folder / CONFIG_FILE).write_text(json.dumps(values))
    tokenizer.save_pretrained(folder)
    (folder / IMAGE_FILE).write_text(json.dumps(image_settings))
    return folder


def _train(trainer, **parts):
    """Train a BPE on `CORPUS`; return its pieces in order, and its merges."""
    tokenizer = Tokenizer(models.BPE(**parts.pop("model", {})))
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges: Any = [tuple(merge) for merge in model["merges"]]
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    return pieces, merges


def _gemma_pieces():
    """Return the vocabulary and merges of a BPE that falls back to bytes."""
    pieces, merges = _train(
        trainers.BpeTrainer(vocab_size=80, show_progress=False),
        normalizer=normalizers.Replace(" ", "▁"),
        pre_tokenizer=pre_tokenizers.Split(" ", "merged_with_previous"),
    )
    octets = [f"<0x{octet:02X}>" for octet in range(256)]
    ordered = [*_GEMMA_SPECIAL, *octets, *pieces]
    return {piece: i for i, piece in enumerate(ordered)}, merges


def _clip_pieces():
    """Return the vocabulary and merges of a byte-level BPE that marks ends of words."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces, merges = _train(
        trainers.BpeTrainer(
            vocab_size=600,
            initial_alphabet=alphabet,
            end_of_word_suffix="</w>",
            show_progress=False,
        ),
        model={"end_of_word_suffix": "</w>"},
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
    )
    ends = [f"{letter}</w>" for letter in alphabet]
    special = ["<|startoftext|>", "<|endoftext|>"]
    ordered = dict.fromkeys([*alphabet, *ends, *pieces, *special])
    return {piece: i for i, piece in enumerate(ordered)}, merges
