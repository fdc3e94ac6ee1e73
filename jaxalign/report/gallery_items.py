# SPDX-License-Identifier: Apache-2.0
"""The gallery's data: query pictures, and their neighbours with and without the map."""

import base64
import dataclasses
import io
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from jaxalign.errors import ArgumentError

Picture: TypeAlias = bytes | np.ndarray
"""PNG bytes, or uint8 pixels ``(h, w, 3)``, ``(h, w, 4)`` or ``(h, w)``."""

_PNG_START = b"\x89PNG\r\n\x1a\n"


class FoundPicture(NamedTuple):
    """A picture found for a query, and its cosine."""

    picture: Picture
    name: str
    score: float


class FoundText(NamedTuple):
    """A text found for a query, its cosine, and whether it is the query's own."""

    text: str
    score: float
    correct: bool


@dataclasses.dataclass(frozen=True)
class GalleryItem:
    """One line of the gallery.

    Attributes:
      query_picture: the picture that is asked for.
      query_name: its name.
      native_neighbours: found by the target model's own embedding of the query.
      mapped_neighbours: found by the source model's embedding, mapped.
      mapped_texts: texts of the target model found by the mapped embedding.
    """

    query_picture: Picture
    query_name: str
    native_neighbours: Sequence[FoundPicture]
    mapped_neighbours: Sequence[FoundPicture]
    mapped_texts: Sequence[FoundText]


def picture_data_uri(picture: Picture) -> str:
    """Write a picture as a ``data:`` address.

    Args:
      picture: PNG bytes or uint8 pixels.

    Returns:
      The address.

    Raises:
      ValueError: if it is neither.
    """
    if isinstance(picture, bytes) and picture.startswith(_PNG_START):
        return _data_uri(picture)
    shape = getattr(picture, "shape", ())
    channels = shape[2] if len(shape) == 3 else 1 if len(shape) == 2 else 0
    if getattr(picture, "dtype", None) != np.uint8 or channels not in (1, 3, 4):
        expected = "pictures as PNG bytes or uint8 pixels (h, w, 3)"
        got = f"{type(picture).__name__} of shape {shape}"
        remedy = "encode other pictures as PNG"
        raise ArgumentError("GalleryItem", expected, got, remedy)
    from PIL import Image

    buffer = io.BytesIO()
    pixels = np.asarray(picture)
    pixels = pixels[..., 0] if channels == 1 and pixels.ndim == 3 else pixels
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return _data_uri(buffer.getvalue())


def _data_uri(png: bytes) -> str:
    """Base64 address of PNG bytes."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
