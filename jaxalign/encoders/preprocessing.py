# SPDX-License-Identifier: Apache-2.0
"""Preprocessing of a checkpoint folder: its image processor and its tokenizer.

Both are the ones of `transformers`, used without torch. Pictures go through the Pillow
backend: the torchvision one resizes differently, which makes another space.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer

from jaxalign.encoders.quiet import quiet_transformers

IMAGE_FILE = "preprocessor_config.json"
TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "vocab.json")

# Settings of the image processor that change pixels; all else (names, versions) may
# differ between folders of one space.
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


class ImagePreprocessor:
    """Turns pictures into the pixels that a checkpoint's image tower takes."""

    def __init__(self, folder: str | os.PathLike):
        with quiet_transformers():
            self._processor = AutoImageProcessor.from_pretrained(
                str(folder), backend="pil"
            )

    def __call__(
        self, images: Sequence[np.ndarray | Image.Image]
    ) -> Float[np.ndarray, "n h w 3"]:
        """Resize, crop and normalise pictures.

        Args:
          images: uint8 arrays (height, width, 3), or Pillow images of any mode.

        Returns:
          (n, h, w, 3), float32.
        """
        pictures = [
            Image.fromarray(image) if isinstance(image, np.ndarray) else image
            for image in images
        ]
        pixels = self._processor(pictures, return_tensors="np")["pixel_values"]
        return np.asarray(pixels, np.float32).transpose(0, 2, 3, 1)

    def canonical(self) -> str:
        """Return the settings that change pixels, as JSON with sorted keys."""
        settings = self._processor.to_dict()
        kept = {key: settings.get(key) for key in _PIXEL_KEYS}
        return json.dumps(kept, sort_keys=True, default=_as_plain)


class TextPreprocessor:
    """Turns strings into the ids that a checkpoint's text tower takes."""

    def __init__(self, folder: str | os.PathLike, *, length: int):
        folder = Path(folder)
        with quiet_transformers():
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder))
        self._length = length
        files = [folder / name for name in TOKENIZER_FILES]
        self._content = b"".join(f.read_bytes() for f in files if f.is_file())

    def __call__(
        self, texts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "n t"], Bool[np.ndarray, "n t"]]:
        """Tokenize strings to the model's full length.

        Longer texts are cut, keeping their end token; shorter ones are padded.

        Args:
          texts: n strings; an empty one is a text too.

        Returns:
          int32 ids (n, length) and a mask, False at padding.

        Raises:
          ValueError: if something else than strings comes.
        """
        wrong = [type(text).__name__ for text in texts if not isinstance(text, str)]
        if isinstance(texts, str) or wrong:
            got = "one string" if isinstance(texts, str) else f"{wrong[0]} among them"
            raise ValueError(
                f"`embed_texts(texts=...)` expected a list of strings, got {got}; "
                "pass one string for each row."
            )
        encoded = self._tokenizer(
            list(map(str, texts)),
            padding="max_length",
            truncation=True,
            max_length=self._length,
            return_attention_mask=True,
        )
        return (
            np.asarray(encoded["input_ids"], np.int32).reshape(-1, self._length),
            np.asarray(encoded["attention_mask"], bool).reshape(-1, self._length),
        )

    @property
    def largest_id(self) -> int:
        """The largest id that a text can get."""
        return len(self._tokenizer) - 1

    def canonical(self) -> bytes:
        """Return the bytes of the tokenizer's own files."""
        return self._content


def _as_plain(value: Any) -> Any:
    """Reduce what transformers keeps in settings (enums, size objects) to JSON."""
    if hasattr(value, "value"):
        return value.value
    return dict(value)
