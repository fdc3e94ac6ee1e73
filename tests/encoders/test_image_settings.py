# SPDX-License-Identifier: Apache-2.0
"""Pixels are what a folder's settings say, for any settings and any pictures.

The reference is `awkward.by_hand`, made of Pillow and NumPy alone; `transformers`
itself is compared bit for bit here, and on torch in `test_parity_preprocessing.py`.
"""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from jaxalign.encoders.open_clip_preprocessing import OpenClipImagePreprocessor
from jaxalign.encoders.preprocessing import ImagePreprocessor
from tests.encoders import awkward

drawn = settings(max_examples=25, deadline=None, derandomize=True, database=None)

# Roundings of float32 on the way: product, difference, quotient.
ROUNDINGS = 4 * float(np.finfo(np.float32).eps)
SQUARE = Image.new("RGB", (8, 8), "gray")


def _theirs(folder):
    return AutoImageProcessor.from_pretrained(str(folder), backend="pil")


def _same_as_transformers(preprocess, picture, theirs, name=""):
    options = {} if picture.mode == "RGB" else {"do_convert_rgb": True}
    expected = theirs(picture, return_tensors="np", **options)["pixel_values"]
    found = preprocess([picture]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(found, expected, err_msg=name)


def _check(values, picture):
    with tempfile.TemporaryDirectory() as root:
        folder = awkward.write_settings(Path(root), values)
        preprocess = ImagePreprocessor(folder)
        expected = awkward.by_hand(picture, values)
        assert preprocess.shape == awkward.by_hand(SQUARE, values).shape
        if expected.shape != preprocess.shape:
            with pytest.raises(ValueError, match="images="):
                preprocess([picture])
            return
        # Of the largest number on the way: a byte, scaled, over the least deviation.
        scale = values["rescale_factor"] if values["do_rescale"] else 1.0
        least = min(values["image_std"]) if values["do_normalize"] else 1.0
        largest = max(255 * scale, 1.0) / least
        found = preprocess([picture])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=ROUNDINGS * largest)
        _same_as_transformers(preprocess, picture, _theirs(folder))


@drawn
@given(values=awkward.image_settings("CLIPImageProcessor"), picture=st.data())
def test_any_settings_of_clip_mean_what_they_say(values, picture):
    _check(values, picture.draw(awkward.drawn_pictures()))


@drawn
@given(values=awkward.image_settings("SiglipImageProcessor"), picture=st.data())
def test_any_settings_of_siglip_mean_what_they_say(values, picture):
    _check(values, picture.draw(awkward.drawn_pictures()))


# Of older versions of Pillow.
@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
def test_awkward_pictures_give_the_pixels_of_transformers(folders, hub_folders):
    pictures = awkward.pictures()
    for folder in (*folders.values(), hub_folders["siglip2"]):
        preprocess, theirs = ImagePreprocessor(folder), _theirs(folder)
        for name, picture in pictures.items():
            _same_as_transformers(preprocess, picture, theirs, name)


@pytest.fixture(scope="module")
def preprocess(folders):
    """For what no setting changes."""
    return ImagePreprocessor(folders["clip"])


def test_arrays_are_pictures_whatever_their_height(preprocess):
    """Unlike transformers, which takes three rows for three channels."""
    for height in (1, 2, 3, 4, 30):
        picture = awkward.noise(3 * height, height)
        np.testing.assert_array_equal(
            preprocess([np.asarray(picture)]), preprocess([picture])
        )


def test_a_cameras_orientation_is_left_to_the_user(preprocess):
    picture = awkward.rotated()
    upright = ImageOps.exif_transpose(awkward.rotated())
    assert upright.size == picture.size[::-1]
    plain = preprocess([Image.fromarray(np.asarray(picture))])
    np.testing.assert_array_equal(preprocess([picture]), plain)
    assert (preprocess([upright]) != plain).any()


def _cut(kind):
    """Return a picture whose file ends early: it opens, and cannot be read."""
    file = io.BytesIO()
    awkward.noise(50, 50).save(file, kind)
    return Image.open(io.BytesIO(file.getvalue()[:1500]))


def test_pictures_that_cannot_be_read_are_named(preprocess, tmp_path):
    open_clip = OpenClipImagePreprocessor({}, image_size=12, where="here")
    for each in (preprocess, open_clip):
        for kind in ("PNG", "JPEG", "BMP", "GIF"):
            with pytest.raises(ValueError, match=r"images=.*mode \w+, 50 x 50"):
                each([awkward.noise(9, 9), _cut(kind)])
        path = tmp_path / "cut.bmp"
        awkward.noise(50, 50).save(path)
        path.write_bytes(path.read_bytes()[:1500])
        with (
            Image.open(path) as picture,
            pytest.raises(ValueError, match=r"images=.*cut\.bmp"),
        ):
            each([picture])
        # Pillow converts no premultiplied grey.
        premultiplied = awkward.noise(9, 9, bands=4).convert("LA").convert("La")
        with pytest.raises(ValueError, match="images=.*mode La, 9 x 9"):
            each([premultiplied])


def test_no_pictures_give_no_pixels(preprocess):
    assert preprocess([]).shape == (0, *preprocess.shape)
