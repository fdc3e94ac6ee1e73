# SPDX-License-Identifier: Apache-2.0
"""Pictures and texts come out as the folder's own processors say, or are refused."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxalign.encoders.preprocessing import (
    IMAGE_FILE,
    ImagePreprocessor,
    TextPreprocessor,
    as_pictures,
)
from tests import tiny_encoders
from tests.tiny_encoders import IMAGE_SIZE, TEXT_LENGTH

FAMILIES = tiny_encoders.FAMILIES


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param) / "folder"
    return tiny_encoders.write_folder(root, request.param)


def test_one_colour_comes_out_normalised_by_hand(folder):
    preprocess = ImagePreprocessor(folder)
    settings = json.loads((folder / IMAGE_FILE).read_text())
    colour = np.array([255, 0, 51], np.uint8)
    picture = np.broadcast_to(colour, (30, 30, 3)).copy()
    pixels = preprocess([picture, Image.fromarray(picture)])
    assert pixels.shape == (2, *preprocess.shape) == (2, IMAGE_SIZE, IMAGE_SIZE, 3)
    assert pixels.dtype == np.float32
    mean, std = settings["image_mean"], settings["image_std"]
    expected = (np.array([1.0, 0.0, 0.2]) - mean) / std
    # Resizing one colour gives that colour; what is left is float32's rounding.
    np.testing.assert_allclose(pixels, np.broadcast_to(expected, pixels.shape), 1e-5)


def test_modes_of_pillow_become_rgb(folder):
    gray = Image.new("L", (20, 20), 128)
    pixels = ImagePreprocessor(folder)([gray, gray.convert("RGB")])
    np.testing.assert_array_equal(pixels[0], pixels[1])


def test_texts_are_padded_and_cut_to_one_length(folder):
    tokenize = TextPreprocessor(folder, length=TEXT_LENGTH)
    ids, mask = tokenize(["a fish", "", "a red apple " * 20])
    assert ids.shape == mask.shape == (3, TEXT_LENGTH)
    assert ids.dtype == np.int32
    assert mask[2].all()
    assert mask[1].sum() < mask[0].sum() < TEXT_LENGTH
    assert ids.max() <= tokenize.largest_id
    empty, none = tokenize([])
    assert empty.shape == none.shape == (0, TEXT_LENGTH)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize("texts", ["one string", ["a", 3], [b"bytes"]])
def test_what_is_no_list_of_strings_is_refused(folder, texts):
    with pytest.raises(ValueError, match="list of strings"):
        TextPreprocessor(folder, length=TEXT_LENGTH)(texts)


@pytest.mark.parametrize("text", ["\ud800", "a red \udcff apple"])
def test_half_characters_are_refused(folder, text):
    with pytest.raises(ValueError, match="half a character.*errors='replace'"):
        TextPreprocessor(folder, length=TEXT_LENGTH)(["a fish", text])


FLOATS = np.zeros((4, 4, 3))


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 4, 4, 3), np.uint8),
        "cat.png",
        [FLOATS],
        [np.zeros((4, 4), np.uint8)],
        [np.zeros((4, 4, 4), np.uint8)],
        ["cat.png"],
        [np.zeros((0, 4, 3), np.uint8)],
    ],
    ids=["stack", "path", "floats", "gray", "alpha", "paths", "empty"],
)
def test_what_are_no_pictures_is_refused(images):
    with pytest.raises(ValueError, match="embed_images"):
        as_pictures(images)


def test_pixel_settings_are_canonical(folder, tmp_path):
    """Only what changes pixels changes the canonical settings."""
    before = ImagePreprocessor(folder).canonical()
    for name, value, same in (
        ("processor_class", "Another", True),
        ("image_mean", [0.1, 0.2, 0.3], False),
        ("do_pad", True, False),
    ):
        copy = tiny_encoders.copy_folder(folder, tmp_path / name)
        settings = json.loads((copy / IMAGE_FILE).read_text())
        (copy / IMAGE_FILE).write_text(json.dumps({**settings, name: value}))
        assert (ImagePreprocessor(copy).canonical() == before) == same


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"size": "large"}',
        '{"size": 0}',
        '{"image_std": [0, 0, 0]}',
        '{"image_std": [1, 1]}',
        '{"image_mean": [NaN, 0, 0]}',
        '{"resample": 99}',
        '{"rescale_factor": "x"}',
        '{"image_processor_type": "Siglip2ImageProcessor"}',
    ],
)
def test_damaged_settings_are_one_error(folder, tmp_path, content):
    copy = tiny_encoders.copy_folder(folder, tmp_path / "copy")
    (copy / IMAGE_FILE).write_text(content)
    with pytest.raises(ValueError, match=f"expected {IMAGE_FILE} in .*cannot use"):
        ImagePreprocessor(copy)
