# SPDX-License-Identifier: Apache-2.0
"""Small pictures, whole and broken, as the bytes of their files."""

import io

import numpy as np
from PIL import Image


def picture(level: int, *, kind: str = "PNG", size=(6, 4), mode: str = "RGB") -> bytes:
    """A picture of one grey level, unlike that of any other level."""
    stream = io.BytesIO()
    Image.new("RGB", size, (level,) * 3).convert(mode).save(stream, kind)
    return stream.getvalue()


def noise(*, kind: str = "JPEG", size=(64, 48)) -> bytes:
    """A picture that does not compress to nothing, so that it can be cut."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def level_of(image: Image.Image) -> int:
    """The grey level of a picture that `picture` made."""
    return int(np.asarray(image.convert("RGB"))[0, 0, 0])
