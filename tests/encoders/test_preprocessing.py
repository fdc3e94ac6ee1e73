# SPDX-License-Identifier: Apache-2.0
"""Pictures and texts come out as the folder's own processors say."""

import json

import numpy as np
from PIL import Image

from jaxalign.encoders.preprocessing import (
    IMAGE_FILE,
    ImagePreprocessor,
    TextPreprocessor,
)
from tests import tiny_encoders
from tests.tiny_encoders import IMAGE_SIZE, TEXT_LENGTH

# A share of 255, a difference of numbers of about one, a quotient by 1/4 or more.
ROUNDINGS = 8 * float(np.finfo(np.float32).eps)


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
    np.testing.assert_allclose(
        pixels, np.broadcast_to(expected, pixels.shape), rtol=0, atol=ROUNDINGS
    )


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


def test_pixel_settings_are_canonical(folders, tmp_path):
    """Only what changes pixels changes the canonical settings."""
    before = ImagePreprocessor(folders["clip"]).canonical()
    for name, value, same in (
        ("processor_class", "Another", True),
        ("image_mean", [0.1, 0.2, 0.3], False),
        ("do_pad", True, False),
    ):
        copy = tiny_encoders.copy_folder(folders["clip"], tmp_path / name)
        settings = json.loads((copy / IMAGE_FILE).read_text())
        (copy / IMAGE_FILE).write_text(json.dumps({**settings, name: value}))
        assert (ImagePreprocessor(copy).canonical() == before) == same
