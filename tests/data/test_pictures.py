# SPDX-License-Identifier: Apache-2.0
import concurrent.futures
import errno
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxalign.data import pictures
from jaxalign.data.pictures import UnreadablePictureError, decode_picture
from tests.data.made_pictures import level_of, noise, picture


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA"])
def test_the_mode_of_the_file_is_kept(mode):
    image = decode_picture(picture(255, mode=mode), id="a")
    assert image.mode == mode
    assert image.size == (6, 4)


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_all_formats_are_read_whole(kind):
    assert level_of(decode_picture(picture(128, kind=kind), id="a")) == 128


GREYS = np.array([[0, 128, 129, 32_896], [257, 65_406, 65_407, 65_535]], np.uint16)
SCALED = [[0, 0, 1, 128], [1, 254, 255, 255]]


def _encode(greys: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(greys).save(stream, kind)
    return stream.getvalue()


def _tiff(greys: np.ndarray, bits: int, kind: int) -> bytes:
    """A TIFF file in the byte order of the array; Pillow does not write them all."""
    order, mark = (">", b"MM") if greys.dtype.str[0] == ">" else ("<", b"II")
    packed = np.packbits(_bits(greys, bits)) if bits < 16 else greys
    content = packed.tobytes()
    height, width = greys.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1}
    tags |= {278: height, 279: len(content), 339: kind}
    start = struct.pack(f"{order}HI", 42, 8 + len(content))
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items()
    )
    count = struct.pack(f"{order}H", len(tags))
    return mark + start + content + count + entries + bytes(4)


def _bits(greys: np.ndarray, bits: int) -> np.ndarray:
    """The lowest bits of each number, highest first."""
    return greys[..., None] >> np.arange(bits)[::-1] & 1


SIXTEEN = {
    "PNG": _encode(GREYS, "PNG"),
    "TIFF": _encode(GREYS, "TIFF"),
    "JPEG2000": _encode(GREYS, "JPEG2000"),
    "PGM": b"P5 4 2 65535\n" + GREYS.astype(">u2").tobytes(),
    "TIFF, little-endian": _tiff(GREYS.astype("<u2"), 16, 1),
    "TIFF, big-endian": _tiff(GREYS.astype(">u2"), 16, 1),
}


@pytest.mark.parametrize("case", SIXTEEN)
def test_greys_of_sixteen_bits_are_scaled_to_eight(case):
    image = decode_picture(SIXTEEN[case], id="a")
    assert (image.mode, image.size) == ("L", (4, 2))
    assert np.asarray(image).tolist() == SCALED
    assert pickle.loads(pickle.dumps(image)) == image


def test_greys_of_twelve_bits_are_scaled_to_eight():
    greys = np.array([[0, 8, 9, 4095]], "<u2")
    image = decode_picture(_tiff(greys, 12, 1), id="a")
    assert np.asarray(image).tolist() == [[0, 0, 1, 255]]


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_every_16_bit_mode_of_pillow_is_scaled(mode):
    order = {"I;16": "<", "I;16L": "<", "I;16B": ">", "I;16N": "="}[mode]
    content = GREYS.astype(f"{order}u2").tobytes()
    image = Image.frombytes(mode, (4, 2), content)
    full = pictures._full_scale(image)
    assert full == 65_535
    assert np.asarray(pictures._scale_to_bytes(image, full)).tolist() == SCALED


def test_a_png_that_pillow_opens_as_integers_is_scaled():
    image = Image.fromarray(GREYS.astype(np.int32))
    image.format = "PNG"
    assert pictures._full_scale(image) == 65_535
    assert np.asarray(pictures._scale_to_bytes(image, 65_535)).tolist() == SCALED


NO_RANGE = {
    "signed": _tiff(GREYS.astype("<i2"), 16, 2),
    "32 bits": _encode(GREYS.astype(np.int32), "TIFF"),
    "floating": _encode(GREYS.astype(np.float32), "TIFF"),
}


@pytest.mark.parametrize("case", NO_RANGE)
def test_greys_without_a_range_are_told(case):
    with pytest.raises(UnreadablePictureError, match="no fixed range; save it with 8"):
        decode_picture(NO_RANGE[case], id="a")


def test_a_path_is_read_and_no_file_stays_open(tmp_path):
    for kind in ("PNG", "GIF", "TIFF", "WEBP"):
        path = tmp_path / f"picture.{kind.lower()}"
        path.write_bytes(picture(7, kind=kind))
        image = decode_picture(path, id="a")
        copied = pickle.loads(pickle.dumps(image))
        assert level_of(image) == level_of(copied) == 7


def test_exif_does_not_turn_the_picture():
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(stream, "JPEG", exif=exif)
    assert decode_picture(stream.getvalue(), id="a").size == (6, 4)


def _bomb() -> bytes:
    """A PNG of 900 million pixels by its header."""
    encoded = bytearray(picture(0))
    encoded[16:24] = struct.pack(">II", 30_000, 30_000)
    encoded[29:33] = struct.pack(">I", zlib.crc32(encoded[12:29]))
    return bytes(encoded)


UNREADABLE = {
    "empty": (b"", "the file is empty"),
    "text": (b"<html>404</html>", "no picture of a known format"),
    "cut JPEG": (noise()[:900], "is damaged .*truncated"),
    "cut PNG": (noise(kind="PNG")[:900], "is damaged"),
    "header alone": (picture(0)[:20], "is damaged|known format"),
    "bomb": (_bomb(), "it is too large"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "known"),
    "no pixels": (b"P6 0 0 255\n", "damaged|no pixels|known format"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_one_error(case):
    encoded, reason = UNREADABLE[case]
    with pytest.raises(UnreadablePictureError, match=reason) as caught:
        decode_picture(encoded, id="some/id")
    assert caught.value.id == "some/id"
    assert "'some/id' cannot be read" in str(caught.value)
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (copied.id, copied.reason) == (caught.value.id, caught.value.reason)


def test_every_cut_of_a_picture_is_either_read_or_that_error():
    for kind in pictures.FORMATS:
        encoded = noise(kind=kind, size=(16, 12))
        for length in range(0, len(encoded), max(1, len(encoded) // 40)):
            try:
                decode_picture(encoded[:length], id="a")
            except UnreadablePictureError:
                pass


def test_files_that_are_missing_or_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {
        "missing.png": "No such file",
        "pipe": "is not a file",
        ".": "is not a file",
        "x" * 300: "name too long",
    }.items():
        with pytest.raises(UnreadablePictureError, match=reason):
            decode_picture(tmp_path / name, id="a")


def test_a_part_of_a_file_is_read_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert pictures.read_file(path, id="a", offset=2, size=3) == b"234"
    with pytest.raises(UnreadablePictureError, match="ends inside it"):
        pictures.read_file(path, id="a", offset=8, size=3)


def _fail_with(monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "stat", fail)


@pytest.mark.parametrize(
    "name", "EIO ESTALE ETIMEDOUT ENOTCONN EMFILE ENFILE ENOMEM".split()
)
def test_a_fault_that_may_pass_is_not_the_pictures(name, monkeypatch):
    number = getattr(errno, name)
    _fail_with(monkeypatch, number)
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
        decode_picture("a.png", id="a")
    assert caught.value.errno == number


@pytest.mark.parametrize(
    "name", "ENOENT EACCES EPERM EISDIR ENOTDIR ELOOP ENAMETOOLONG".split()
)
def test_a_fault_of_the_picture_is_told(name, monkeypatch):
    number = getattr(errno, name)
    _fail_with(monkeypatch, number)
    told = f"'a.png': {re.escape(os.strerror(number))}"
    with pytest.raises(UnreadablePictureError, match=told):
        decode_picture("a.png", id="a")


def test_a_fault_while_reading_is_raised_too(tmp_path, monkeypatch):
    class File(io.BytesIO):
        def read(self, *_):
            raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "a.png").write_bytes(picture(1))
    monkeypatch.setattr("builtins.open", lambda *_, **__: File())
    with pytest.raises(OSError, match="Input/output error"):
        decode_picture(tmp_path / "a.png", id="a")


def test_pillow_warnings_are_neither_raised_nor_kept_off(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # 24 pixels: a warning
    before = list(warnings.filters)
    encoded = picture(3)
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(encoded))

    def work(_):
        return level_of(decode_picture(encoded, id="a"))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(400))) == {3}
    assert list(warnings.filters) == before
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(encoded))


def test_other_warnings_show_while_pictures_are_decoded(monkeypatch):
    with pictures._pillow_warnings_off(), pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


def test_threads_decode_at_the_same_time():
    inside = threading.Barrier(2, timeout=20)

    def work(_):
        with pictures._pillow_warnings_off():
            inside.wait()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))


def test_decoding_prints_nothing():
    code = (
        "import pickle, sys\n"
        "from jaxalign.data.pictures import Image, decode_picture\n"
        "Image.MAX_IMAGE_PIXELS = 20\n"
        "for encoded in pickle.load(sys.stdin.buffer):\n"
        "    try: decode_picture(encoded, id='a')\n"
        "    except ValueError: pass"
    )
    encoded = [picture(3), _bomb(), noise(kind="TIFF")[:600]]
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(encoded),
        capture_output=True,
        check=True,
    )
    assert done.stdout + done.stderr == b""


def test_pixels_are_those_of_pillow():
    encoded = noise()
    with Image.open(io.BytesIO(encoded)) as expected:
        found = decode_picture(encoded, id="a")
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
