# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint folder says of pictures and strings, fitted to its model.

Read when first asked for: a folder of config and weights alone is whole for those who
bring pixels and ids.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

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


class FolderPreprocessing:
    """A folder's image processor and tokenizer, checked against its model.

    Args:
      folder: the checkpoint folder, or None for a model that has none.
      name: what errors call the model.
      image_size: pixels of either side that the image tower takes.
      text_length: most tokens that the text tower takes.
      own_length: whether the tokenizer's own length counts where it is less.
      vocabulary: number of ids that the text tower knows.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        name: str,
        image_size: int,
        text_length: int,
        own_length: bool,
        vocabulary: int,
    ):
        self.folder = folder
        self._name = name
        self._image_size = image_size
        self._text_length = text_length
        self._own_length = own_length
        self._vocabulary = vocabulary

    def images(
        self, images: Sequence[np.ndarray | Image.Image]
    ) -> Float[np.ndarray, "n h w 3"]:
        """Preprocess pictures.

        Raises:
          ValueError: if the folder holds no image preprocessing, a damaged one, or one
            of another size than the model's; or see `ImagePreprocessor`.
        """
        if self._image_preprocessor is None:
            raise ValueError(
                f"`preprocess_images`: {self._name} has no {IMAGE_FILE}; add the "
                "checkpoint's, or pass preprocessed pixels to `encode_image`."
            )
        return self._image_preprocessor(images)

    def texts(
        self, texts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "n t"], Bool[np.ndarray, "n t"]]:
        """Tokenize strings: ids, and False at padding.

        Raises:
          ValueError: if the folder holds no tokenizer, a damaged one, or one of
            another vocabulary; or see `TextPreprocessor`.
        """
        if self._text_preprocessor is None:
            raise ValueError(
                f"`tokenize`: {self._name} has no tokenizer ({TOKENIZER_FILES[0]}); "
                "add the checkpoint's, or pass token ids to `encode_text`."
            )
        return self._text_preprocessor(texts)

    def canonical(self) -> bytes:
        """Return all that changes pixels and ids; nothing where there is neither."""
        images, texts = self._image_preprocessor, self._text_preprocessor
        return (images.canonical().encode() if images else b"") + (
            texts.canonical() if texts else b""
        )

    @functools.cached_property
    def _image_preprocessor(
        self,
    ) -> ImagePreprocessor | OpenClipImagePreprocessor | None:
        if self.folder is None:
            return None
        if find_image_settings(self.folder) is None:
            if not is_open_clip(self.folder):
                return None
            return open_clip_image_preprocessor(
                self.folder, image_size=self._image_size
            )
        preprocessor = ImagePreprocessor(self.folder)
        expected = (self._image_size, self._image_size, 3)
        if preprocessor.shape != expected:
            raise ValueError(
                f"`preprocess_images`: {preprocessor.file} of {self._name} makes "
                f"pictures of shape {preprocessor.shape}, but the model takes "
                f"{expected}; use the {preprocessor.file} that belongs to the "
                "checkpoint."
            )
        return preprocessor

    @functools.cached_property
    def _text_preprocessor(self) -> TextPreprocessor | None:
        folder = self.folder
        if folder is None or not any((folder / f).is_file() for f in TOKENIZER_FILES):
            return None
        preprocessor = TextPreprocessor(
            folder, length=self._text_length, own_length=self._own_length
        )
        if preprocessor.largest_id >= self._vocabulary:
            raise ValueError(
                f"`tokenize`: the tokenizer of {self._name} has ids up to "
                f"{preprocessor.largest_id}, but the model's vocabulary is "
                f"{self._vocabulary}; use the tokenizer that belongs to the checkpoint."
            )
        return preprocessor
