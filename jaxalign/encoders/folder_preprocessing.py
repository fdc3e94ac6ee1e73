# SPDX-License-Identifier: Apache-2.0
"""Preprocessing of pictures and strings by a checkpoint's folder, for its model.

Read when first asked for: a folder of config and weights alone is whole for those who
bring pixels and ids. It travels to worker processes as the folder's path and a few
numbers, and may be used by several threads.
"""

import dataclasses
import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from jaxalign.encoders.open_clip import is_open_clip, open_clip_image_preprocessor
from jaxalign.encoders.open_clip_preprocessing import OpenClipImagePreprocessor
from jaxalign.encoders.preprocessing import (
    IMAGE_FILE,
    TOKENIZER_FILES,
    ImagePreprocessor,
    TextPreprocessor,
    find_image_settings,
)
from jaxalign.errors import ArgumentError

SHORTEST_TEXT = 16
"""Tokens that texts are at least padded to, where padding changes no row."""


@dataclasses.dataclass(eq=False)
class FolderPreprocessing:
    """A folder's image processor and tokenizer, checked against its model.

    Attributes:
      folder: the checkpoint folder, or None for a model that has none.
      name: what errors call the model.
      image_size: pixels of either side that the image tower takes.
      text_length: most tokens that the text tower takes.
      masks_padding: see `Family`.
      causal_text: see `Family`.
      vocabulary: number of ids that the text tower knows.
    """

    folder: Path | None
    name: str
    image_size: int
    text_length: int
    masks_padding: bool
    causal_text: bool
    vocabulary: int

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        # What was read is read again where this arrives.
        read = ("_lock", "_image_preprocessor", "_text_preprocessor")
        return {key: value for key, value in vars(self).items() if key not in read}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def images(
        self, images: Sequence[np.ndarray | Image.Image]
    ) -> Float[np.ndarray, "n h w 3"]:
        """Preprocess pictures.

        Raises:
          ValueError: if the folder holds no image preprocessing, a damaged one, or one
            of another size than the model's; or see `ImagePreprocessor`.
        """
        return self._required_image_preprocessor()(images)

    def texts(
        self, texts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "n t"], Bool[np.ndarray, "n t"] | None]:
        """Tokenize strings to one length, see `Encoders.tokenize`.

        Raises:
          ValueError: if the folder holds no tokenizer, a damaged one, or one of
            another vocabulary; or see `TextPreprocessor`.
        """
        # A tokenizer sets its own padding on each call, so one thread at a time.
        with self._lock:
            if self._text_preprocessor is None:
                expected = f"{self.name} to have a tokenizer ({TOKENIZER_FILES[0]})"
                remedy = "add the checkpoint's, or pass token ids to `encode_text`"
                raise ArgumentError("tokenize", expected, remedy=remedy)
            ids, mask = self._text_preprocessor(texts)
        if not (self.masks_padding or self.causal_text):
            return ids, None
        used = int(np.flatnonzero(mask.any(axis=0)).max(initial=-1)) + 1
        # One column of padding stays: models that pool at an end token which their
        # tokenizer does not write find it there. Lengths are few: few compilations.
        length = max(SHORTEST_TEXT, 1 << used.bit_length())
        return ids[:, :length], mask[:, :length] if self.masks_padding else None

    def to_full_length(
        self, ids: Int[np.ndarray, "n t"], mask: Bool[np.ndarray, "n t"] | None
    ) -> tuple[Int[np.ndarray, "n full"], Bool[np.ndarray, "n full"] | None]:
        """Pad what `texts` gave to the most tokens that a text of this model has.

        Any id will do: what `texts` left out changes no row.
        """
        missing = ((0, 0), (0, self.text_length - ids.shape[1]))
        return np.pad(ids, missing), None if mask is None else np.pad(mask, missing)

    def image_settings(self) -> str:
        """Return all that changes pixels: who has the same makes the same pixels.

        Raises:
          ValueError: if the folder holds no image preprocessing, or see `images`.
        """
        return self._required_image_preprocessor().canonical()

    def canonical(self) -> bytes:
        """Return the settings that change pixels and ids; b"" without any."""
        images, texts = self._image_preprocessor, self._text_preprocessor
        return (images.canonical().encode() if images else b"") + (
            texts.canonical() if texts else b""
        )

    def older_canonical(self) -> bytes:
        """Return what stood in its place in earlier fingerprints."""
        images, texts = self._image_preprocessor, self._text_preprocessor
        return (images.older_canonical().encode() if images else b"") + (
            texts.older_canonical() if texts else b""
        )

    def _required_image_preprocessor(
        self,
    ) -> ImagePreprocessor | OpenClipImagePreprocessor:
        if self._image_preprocessor is None:
            raise ArgumentError(
                "preprocess_images",
                f"{self.name} to have a {IMAGE_FILE}",
                remedy="add the checkpoint's, or pass preprocessed pixels to "
                "`encode_image`",
            )
        return self._image_preprocessor

    @functools.cached_property
    def _image_preprocessor(
        self,
    ) -> ImagePreprocessor | OpenClipImagePreprocessor | None:
        if self.folder is None:
            return None
        if find_image_settings(self.folder) is None:
            if not is_open_clip(self.folder):
                return None
            return open_clip_image_preprocessor(self.folder, image_size=self.image_size)
        preprocessor = ImagePreprocessor(self.folder)
        expected = (self.image_size, self.image_size, 3)
        if preprocessor.shape != expected:
            raise ArgumentError(
                "preprocess_images",
                f"{preprocessor.file} of {self.name} to make pictures of {expected}",
                preprocessor.shape,
                f"use the {preprocessor.file} that belongs to the checkpoint",
            )
        return preprocessor

    @functools.cached_property
    def _text_preprocessor(self) -> TextPreprocessor | None:
        folder = self.folder
        if folder is None or not any((folder / f).is_file() for f in TOKENIZER_FILES):
            return None
        preprocessor = TextPreprocessor(
            folder, length=self.text_length, own_length=self.masks_padding
        )
        if preprocessor.largest_id >= self.vocabulary:
            raise ArgumentError(
                "tokenize",
                f"a tokenizer of {self.name} for its vocabulary of {self.vocabulary}",
                f"ids up to {preprocessor.largest_id}",
                "use the tokenizer that belongs to the checkpoint",
            )
        return preprocessor
