# SPDX-License-Identifier: Apache-2.0
"""What earlier versions made fingerprints of spaces of, kept for their files.

The bytes of whichever tokenizer files lay in the folder, and the image settings as the
file had them: one model from two places had two fingerprints. Nothing here may change.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_TOKENIZER_FILES = (
    "tokenizer.json",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
_PIXEL_KEYS = (
    "crop_size",
    "do_center_crop",
    "do_convert_rgb",
    "do_normalize",
    "do_rescale",
    "do_resize",
    "image_mean",
    "image_std",
    "resample",
    "rescale_factor",
    "size",
)
# Counted only where they are set.
_RARE_PIXEL_KEYS = ("do_pad", "pad_size")


def older_images(processor: Any, probe: Sequence[float]) -> str:
    """Return the settings that change pixels, and some pixels, as JSON."""
    settings = processor.to_dict()
    kept = {key: settings.get(key) for key in _PIXEL_KEYS}
    kept |= {key: settings[key] for key in _RARE_PIXEL_KEYS if settings.get(key)}
    return json.dumps([kept, probe], sort_keys=True, default=_as_plain)


def older_texts(folder: Path, tokenizer: Any, probes: list[list[int]]) -> bytes:
    """Return the tokenizer's own files, how it pads and cuts, and some ids."""
    files = [folder / name for name in _TOKENIZER_FILES]
    content = b"".join(file.read_bytes() for file in files if file.is_file())
    sides = [tokenizer.padding_side, tokenizer.truncation_side]
    # Tokens that other files than the tokenizer's own add or make special.
    added = [
        [number, repr(token)]
        for number, token in sorted(tokenizer.added_tokens_decoder.items())
    ]
    settings = [tokenizer.pad_token_id, *sides, probes, added]
    return content + json.dumps(settings).encode()


def _as_plain(value: Any) -> Any:
    """Reduce what transformers keeps in settings (enums, size objects) to JSON."""
    if hasattr(value, "value"):
        return value.value
    return dict(value)
