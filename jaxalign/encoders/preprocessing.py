# SPDX-License-Identifier: Apache-2.0
"""Preprocessing of a checkpoint folder: its image processor and its tokenizer.

Both are the ones of `transformers`, used without torch. Pictures go through the Pillow
backend: the torchvision one resizes differently, which makes another space.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

# Before transformers 5.18, its name at the top asked for torchvision.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from jaxalign.encoders.damage import damaged
from jaxalign.encoders.image_form import image_form
from jaxalign.encoders.older_space import older_images, older_texts
from jaxalign.encoders.quiet import quiet_transformers
from jaxalign.encoders.tokenizer_files import (
    TOKENIZER_FILES,
    TOKENIZER_SETTINGS,
    tokenizer_class,
)
from jaxalign.encoders.tokenizer_form import tokenizer_form
from jaxalign.errors import ArgumentError
from jaxalign.lfs import is_lfs_pointer

IMAGE_FILE = "preprocessor_config.json"
# What `AutoProcessor.save_pretrained` writes instead, one level deeper.
PROCESSOR_FILE = "processor_config.json"

# Texts whose ids tell tokenizers apart: what `tokenizer_config.json` says of case, of
# begin and end tokens and of prefixes changes ids, and no other file.
_PROBES = ("A Red  apple's 12\t\n", "É ﬁ 中 😀", "</s> <eos> |", "")

# What FLAVA's processor can make beside pixels, for its training; one needs torch.
_TRAINING_OUTPUTS = ("return_image_mask", "return_codebook_pixels")


class ImagePreprocessor:
    """Turns pictures into the pixels that a checkpoint's image tower takes.

    Attributes:
      file: name of the folder's file that holds the settings.
      shape: (height, width, 3) of what it makes of a square picture.
    """

    def __init__(self, folder: str | os.PathLike):
        self.file = find_image_settings(folder) or IMAGE_FILE
        with _explain_damage(Path(folder), (self.file,)), quiet_transformers():
            self._processor = AutoImageProcessor.from_pretrained(
                str(folder), backend="pil", trust_remote_code=False
            )
            for name in _TRAINING_OUTPUTS:
                if getattr(self._processor, name, False):
                    setattr(self._processor, name, False)
            # Some wrong settings only show on use.
            with np.errstate(divide="ignore", invalid="ignore"):
                probe = self._pixels(Image.new("RGB", (8, 8), "gray"))
            if not np.isfinite(probe).all():
                raise ValueError("pixels come out infinite or as NaN")
            self.shape = probe.shape

    def __call__(
        self, images: Sequence[np.ndarray | Image.Image]
    ) -> Float[np.ndarray, "n h w 3"]:
        """Resize, crop and normalise pictures.

        Args:
          images: uint8 arrays (height, width, 3), or Pillow images of any mode. Other
            modes than RGB are converted, what is transparent over white, also where
            the folder does not ask for it: `transformers` fails there.

        Returns:
          (n, h, w, 3), float32.

        Raises:
          ValueError: if a picture cannot be read, or comes out in another shape than
            square ones; see `as_pictures` also.
        """
        rows = []
        for picture in as_pictures(images):
            with explain_unreadable(picture):
                pixels = self._pixels(picture)
            if pixels.shape != self.shape:
                expected = f"pictures that {self.file} brings to the shape {self.shape}"
                got = f"{_describe(picture)}, of which it makes {pixels.shape}"
                remedy = "crop to a square first"
                raise ArgumentError("embed_images(images=...)", expected, got, remedy)
            rows.append(pixels)
        return np.stack(rows) if rows else np.zeros((0, *self.shape), np.float32)

    def _pixels(self, picture: Image.Image) -> Float[np.ndarray, "h w 3"]:
        """Preprocess one picture."""
        # RGB too may name a transparent colour: there the folder's own setting counts.
        options = {} if picture.mode == "RGB" else {"do_convert_rgb": True}
        (pixels,) = self._processor(picture, **options)["pixel_values"]
        return np.asarray(pixels, np.float32).transpose(1, 2, 0)

    def canonical(self) -> str:
        """Return the settings that change pixels, and some pixels, as JSON."""
        values = {"form": image_form(self._processor), "pixels": self._probe()}
        return json.dumps(values, sort_keys=True)

    def older_canonical(self) -> str:
        """Return what stood in its place in earlier fingerprints."""
        return older_images(self._processor, self._probe())

    def _probe(self) -> list[float]:
        """Return some pixels: what processors of other kinds do shows in no setting."""
        ramp = np.arange(48 * 48 * 3, dtype=np.uint32) * 2654435761 >> 24
        picture = Image.fromarray(ramp.astype(np.uint8).reshape(48, 48, 3))
        pixels = self._pixels(picture).ravel()
        # Few and rounded: the last bits may differ between versions.
        return [round(float(value), 2) for value in pixels[:: -(-pixels.size // 48)]]


class TextPreprocessor:
    """Turns strings into the ids that a checkpoint's text tower takes.

    Args:
      folder: a checkpoint folder.
      length: of the ids.
      own_length: whether the tokenizer's own length counts where it is less.
    """

    def __init__(
        self, folder: str | os.PathLike, *, length: int, own_length: bool = False
    ):
        folder = Path(folder)
        self._folder = folder
        self._length = length
        read = (*TOKENIZER_FILES, TOKENIZER_SETTINGS)
        with _explain_damage(folder, read), quiet_transformers():
            self._tokenizer = tokenizer_class(folder).from_pretrained(
                str(folder), trust_remote_code=False
            )
            if own_length:
                self._length = min(length, self._tokenizer.model_max_length)
            self(["a"])  # some wrong settings only show on use

    def __call__(
        self, texts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "n t"], Bool[np.ndarray, "n t"]]:
        """Tokenize strings to one length.

        Longer texts are cut, keeping their end token; shorter ones are padded.

        Args:
          texts: n strings; an empty one is a text too.

        Returns:
          int32 ids (n, length) and a mask, False at padding.

        Raises:
          ValueError: see `check_texts`.
        """
        check_texts(texts)
        if len(texts) == 0:
            none = np.zeros((0, self._length))
            return none.astype(np.int32), none.astype(bool)
        encoded = self._tokenizer(
            list(map(str, texts)),
            padding="max_length",
            truncation=True,
            max_length=self._length,
            return_attention_mask=True,
        )
        return (
            np.asarray(encoded["input_ids"], np.int32),
            np.asarray(encoded["attention_mask"], bool),
        )

    @property
    def largest_id(self) -> int:
        """The largest id that a text can get."""
        # Not the number of ids: a vocabulary may have gaps.
        return max(self._tokenizer.get_vocab().values())

    def canonical(self) -> bytes:
        """Return what decides ids, as JSON with sorted keys; and some ids.

        Tokenizers of equal ids have it alike wherever `tokenizer_form` can tell.
        """
        form = tokenizer_form(self._tokenizer)
        if form is None:  # of a kind that `transformers` may add
            return self.older_canonical()
        values = {"form": form, "length": self._length, "ids": self._probe_ids()}
        for name in ("pad_token_id", "padding_side", "truncation_side"):
            values[name] = getattr(self._tokenizer, name)
        return json.dumps(values, sort_keys=True).encode()

    def older_canonical(self) -> bytes:
        """Return what stood in its place in earlier fingerprints."""
        return older_texts(self._folder, self._tokenizer, self._probe_ids())

    def _probe_ids(self) -> list[list[int]]:
        """Return some ids: what classes do in Python shows in no setting."""
        return self(_PROBES)[0].tolist()


def find_image_settings(folder: str | os.PathLike) -> str | None:
    """Return the name of the file that holds a folder's image settings, if one does."""
    whole = Path(folder) / PROCESSOR_FILE
    # The nested settings come first, as in transformers.
    if whole.is_file() and (
        not _holds_settings(whole)
        or "image_processor" in json.loads(whole.read_bytes())
    ):
        return PROCESSOR_FILE
    return IMAGE_FILE if (Path(folder) / IMAGE_FILE).is_file() else None


def as_pictures(images: Sequence[np.ndarray | Image.Image]) -> list[Image.Image]:
    """Return pictures as Pillow images.

    Raises:
      ValueError: see `check_pictures`.
    """
    check_pictures(images)
    return [
        image if isinstance(image, Image.Image) else Image.fromarray(image)
        for image in images
    ]


def check_pictures(images: Any) -> None:
    """Validate a list of pictures, without a copy of one.

    Raises:
      ValueError: if something else than RGB byte arrays and Pillow images comes, or
        one picture alone.
    """
    is_one = isinstance(images, np.ndarray | Image.Image | str)
    if is_one or not isinstance(images, Sequence):
        raise ArgumentError(
            "embed_images(images=...)",
            "a list of pictures",
            f"one {type(images).__name__}" if is_one else type(images).__name__,
            "pass [picture], or list(array) for a stack",
        )
    for image in images:
        _check_picture(image)


@contextlib.contextmanager
def explain_unreadable(picture: Image.Image) -> Iterator[None]:
    """Turn what Pillow raises over a file that is cut or damaged into one error."""
    try:
        yield
    except (OSError, SyntaxError, ValueError) as error:
        raise ArgumentError(
            "embed_images(images=...)",
            "pictures that Pillow can read as RGB",
            f"{_describe(picture)} ({type(error).__name__}: {error})",
            "leave it out, or write the file again",
        ) from error


def check_texts(texts: Any) -> None:
    """Validate a list of strings.

    Raises:
      ValueError: if something else comes, or a string with half a character (a lone
        surrogate).
    """
    call, expected = "embed_texts(texts=...)", "a list of strings"
    remedy = "pass list(texts), one string for each row"
    # An array without axes has no items to iterate over.
    is_scalar = isinstance(texts, np.ndarray) and texts.ndim == 0
    if isinstance(texts, str):
        raise ArgumentError(call, expected, "one string", remedy)
    if is_scalar or not isinstance(texts, Sequence | np.ndarray):
        raise ArgumentError(call, expected, type(texts).__name__, remedy)
    for text in texts:
        if not isinstance(text, str):
            got = f"{type(text).__name__} among them"
            raise ArgumentError(call, expected, got, remedy)
        if not _is_unicode(text):
            got = f"half a character in {text[:80]!r}"
            remedy = "decode bytes with errors='replace'"
            raise ArgumentError(call, "text", got, remedy)


@contextlib.contextmanager
def _explain_damage(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Turn whatever transformers raises over damaged files into one error."""
    try:
        yield
    except ImportError:  # of a package that is missing, not of the files
        raise
    except Exception as error:
        present = [name for name in names if (folder / name).is_file()]
        for name in present:
            if is_lfs_pointer(folder / name):
                raise damaged(folder / name, f"the contents of {name}") from error
        broken = [name for name in present if not _holds_settings(folder / name)]
        expected = f"{' and '.join(broken or present)} as transformers writes it"
        got = f"one that it cannot use ({type(error).__name__}: {error})"
        raise damaged(folder, expected, got) from error


def _holds_settings(path: Path) -> bool:
    """Tell whether a file is a JSON object, if it is to be JSON at all."""
    if path.suffix != ".json":
        return True
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


def _check_picture(image: Any) -> None:
    """Validate a picture: a Pillow image or an array of RGB bytes, not empty."""
    is_array = isinstance(image, np.ndarray)
    if is_array and image.dtype == np.uint8 and image.shape[2:] == (3,) and image.size:
        return
    if isinstance(image, Image.Image) and 0 not in image.size:
        return
    got = f"{image.dtype} {image.shape}" if is_array else repr(image)[:80]
    expected = "uint8 arrays (height, width, 3) or Pillow images, not empty"
    remedy = "open files with PIL.Image.open, and scale floats to bytes"
    raise ArgumentError("embed_images(images=...)", expected, got, remedy)


def _is_unicode(text: str) -> bool:
    """Tell whether a string can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _describe(picture: Image.Image) -> str:
    """Name a picture's file if it has one, else its mode and size."""
    name = getattr(picture, "filename", "")
    kind = f"one of mode {picture.mode}, {picture.width} x {picture.height}"
    return repr(os.fspath(name)) if name else kind
