# SPDX-License-Identifier: Apache-2.0
"""The files of a checkpoint's tokenizer, and which class reads those that are there."""

import json
import logging
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

_log = logging.getLogger(__name__)

TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "vocab.json", "vocab.txt")
TOKENIZER_SETTINGS = "tokenizer_config.json"


def tokenizer_class(folder: Path) -> Any:
    """Return the class that loads a folder's tokenizer.

    SigLIP's own reads nothing but `spiece.model`. Where a folder has `tokenizer.json`
    alone, that is read, and a warning says so.
    """
    whole, pieces = (folder / name for name in TOKENIZER_FILES[:2])
    if pieces.is_file() or not whole.is_file():
        return AutoTokenizer
    named = _read_setting(folder / TOKENIZER_SETTINGS, "tokenizer_class")
    family = _read_setting(folder / "config.json", "model_type")
    is_default = named is None and family == "siglip"
    if not is_default and named not in ("SiglipTokenizer", "SiglipTokenizerFast"):
        return AutoTokenizer
    _log.warning(
        "%s has no %s, SigLIP's own tokenizer. %s stands for it, which cuts some texts "
        "differently: with both files the rows are of another space.",
        folder,
        pieces.name,
        whole.name,
    )
    return PreTrainedTokenizerFast


def _read_setting(path: Path, key: str) -> Any:
    """Return a setting of a JSON file, None where there is none."""
    return json.loads(path.read_bytes()).get(key) if path.is_file() else None
