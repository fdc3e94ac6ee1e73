# SPDX-License-Identifier: Apache-2.0
"""Decoding a picture of unknown quality, or raising one error that gives the reason."""

import contextlib
import errno
import functools
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image

from jaxalign.errors import UserError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")
"""Pillow's names of the formats that are read.

Pillow knows more. Some of them start programs of the system (EPS starts Ghostscript),
which pictures from anywhere must not.
"""

# Errors of the picture itself. All others are of a disk, network or process, and may be
# gone another time.
_OF_THE_PICTURE = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}

_BITS_TAG = 258  # BitsPerSample of TIFF


class UnreadablePictureError(UserError, ValueError):
    """A picture that cannot be read.

    Attributes:
      id: of its example.
      reason: why, in words.
    """

    def __init__(self, id: str, reason: str):
        super().__init__(id, reason)
        self.id = id
        self.reason = reason

    def __str__(self) -> str:
        return f"The picture {self.id!r} cannot be read: {self.reason}."


def decode_picture(source: bytes | str | os.PathLike[str], *, id: str) -> Image.Image:
    """Read a picture whole.

    Args:
      source: the encoded picture, or the path of its file.
      id: of its example, for the error.

    Returns:
      The loaded image, the first one of an animation, in the mode that the file has and
      not turned by its EXIF data; greys of 16 bits are scaled to 8, mode "L". It holds
      no file open.

    Raises:
      UnreadablePictureError: if there is no such file, or no picture in it that can be
        decoded to its end; if it has so many pixels that Pillow suspects an attack, or
        greys without a fixed range (signed or 32-bit integers, floating point).
      OSError: see `read_file`.
    """
    encoded = source if isinstance(source, bytes) else read_file(source, id=id)
    if not encoded:
        raise UnreadablePictureError(id, "the file is empty")
    try:
        with (
            _pillow_warnings_off(),
            Image.open(io.BytesIO(encoded), formats=_formats()) as image,
        ):
            image.load()
            # Converting to RGB would clip greys at 255.
            full = _full_scale(image)
            if full is not None:
                image = _scale_to_bytes(image, full)
    # Pillow's decoders raise whatever a broken file leads them to.
    except Exception as error:
        raise UnreadablePictureError(id, _reason(error)) from error
    if not all(image.size):
        raise UnreadablePictureError(id, f"it has no pixels {image.size}")
    if image.mode in ("I", "F"):
        reason = "its greys have no fixed range; save it with 8 or 16 bits, unsigned"
        raise UnreadablePictureError(id, f"{reason} (Pillow's mode is {image.mode!r})")
    return image


def read_file(
    path: str | os.PathLike[str], *, id: str, offset: int = 0, size: int | None = None
) -> bytes:
    """Read a picture's bytes, a whole file or a part of one.

    Args:
      path: of the file.
      id: of the picture's example, for the error.
      offset: where the picture begins, bytes.
      size: how many bytes it has; None for all that follow.

    Raises:
      UnreadablePictureError: if there is no such file, it may not be read, or it is
        too short.
      OSError: for a fault that may be gone another time, of a disk, a network or this
        process; the caller should end rather than go on without the picture.
    """
    where = repr(os.fspath(path))
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would not end
            raise UnreadablePictureError(id, f"{where} is not a file")
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            encoded = file.read(-1 if size is None else size)
    except OSError as error:
        if error.errno not in _OF_THE_PICTURE:
            raise
        raise UnreadablePictureError(id, f"{where}: {error.strerror}") from error
    if size is not None and len(encoded) < size:
        raise UnreadablePictureError(id, f"{where} ends inside it")
    return encoded


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return those of the formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _full_scale(image: Image.Image) -> int | None:
    """Return what white is in greys of more than 8 bits, None for all else."""
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})
        return (1 << tags.get(_BITS_TAG, (16,))[0]) - 1  # TIFF knows 12 bits too
    # Pillow opens 16-bit PGM files as "I", whatever their white is scaled to 16 bits.
    return 0xFFFF if image.mode == "I" and image.format in ("PNG", "PPM") else None


def _scale_to_bytes(image: Image.Image, full: int) -> Image.Image:
    greys = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((greys * 255 + full // 2) // full).astype(np.uint8))


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return f"it is no picture of a known format ({', '.join(FORMATS)})"
    if isinstance(error, Image.DecompressionBombError):
        return f"it is too large; {str(error)[:1].lower()}{str(error)[1:].rstrip('.')}"
    return f"it is damaged ({type(error).__name__}: {error})"


# Pillow warns of odd metadata and of large pictures. `warnings.catch_warnings` may not
# be used by several threads at once: one would restore what another has set.
_lock = threading.Lock()
_decoding = 0
_pillow_filter: tuple = ()


@contextlib.contextmanager
def _pillow_warnings_off() -> Iterator[None]:
    """Ignore warnings of Pillow's modules while any thread decodes."""
    global _decoding, _pillow_filter
    with _lock:
        _decoding += 1
        if _decoding == 1:
            warnings.filterwarnings("ignore", module=r"PIL\.\w")
            _pillow_filter = warnings.filters[0]
    try:
        yield
    finally:
        with _lock:
            _decoding -= 1
            if _decoding == 0:
                with contextlib.suppress(ValueError):  # someone else has reset them
                    warnings.filters.remove(_pillow_filter)  # pyright: ignore
