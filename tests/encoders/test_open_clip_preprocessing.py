# SPDX-License-Identifier: Apache-2.0
"""Pictures become the pixels of OpenCLIP's own transforms, bit for bit."""

import json
import re

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from jaxalign.encoders.open_clip_preprocessing import OpenClipImagePreprocessor
from tests.encoders.goldens import FOLDER

SIZE = 12
STORED = safetensors.numpy.load_file(FOLDER / "openclip-pixels" / "io.safetensors")
SETTINGS = json.loads((FOLDER / "openclip-pixels" / "preprocess_cfg.json").read_text())
NAMES = sorted(key.removeprefix("picture ") for key in STORED if "picture" in key)


def _picture(name):
    mode = name.rsplit(" ", 1)[1]
    array = STORED[f"picture {name}"]
    if mode == "CMYK":  # as many channels as RGBA, so Pillow must be told
        return Image.frombytes(mode, array.shape[1::-1], array.tobytes())
    picture = Image.fromarray(array)
    if mode == "P":
        picture.putpalette(STORED["palette"].tolist())
    assert picture.mode == mode
    return picture


def _preprocessor(settings=None):
    return OpenClipImagePreprocessor(
        settings or {}, image_size=SIZE, where="'open_clip_config.json'"
    )


@pytest.mark.parametrize("way", sorted(SETTINGS))
def test_pixels_equal_those_of_open_clip_bit_for_bit(way):
    pixels = _preprocessor(SETTINGS[way])([_picture(name) for name in NAMES])
    assert pixels.dtype == np.float32
    for found, name in zip(pixels, NAMES, strict=True):
        np.testing.assert_array_equal(found, STORED[f"{way} {name}"], err_msg=name)


def test_the_goldens_hold_what_transformers_does_differently():
    """Else a preprocessor of our own would not be worth having."""
    sides = {"height": SIZE, "width": SIZE}
    theirs = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=sides)
    differ = []
    for name in NAMES:
        pixels = theirs([_picture(name)], return_tensors="np")["pixel_values"][0]
        expected = STORED[f"shortest {name}"]
        if np.abs(pixels.transpose(1, 2, 0) - expected).max() > 1e-3:
            differ.append(name)
    # Crops that cut 3 or 7 pixels, and modes that are resized before they become RGB.
    crops = ["12x15 RGB", "37x61 RGB", "61x37 RGB"]
    assert differ == sorted([*crops, "23x17 LA", "23x17 P", "23x17 RGBA"])


def test_arrays_are_taken_as_pictures_and_none_gives_none():
    preprocess = _preprocessor()
    array = np.array(_picture("61x37 RGB"))
    rows = preprocess([array, Image.fromarray(array)])
    assert rows.shape == (2, *preprocess.shape) == (2, SIZE, SIZE, 3)
    np.testing.assert_array_equal(rows[0], rows[1])
    assert preprocess([]).shape == (0, SIZE, SIZE, 3)


def test_what_is_left_out_is_as_open_clip_has_it():
    full = _preprocessor(SETTINGS["shortest"]).canonical()
    assert _preprocessor({}).canonical() == full
    # Null is left out; "random" concerns training only; sizes come from the model.
    given = {"mean": None, "std": None, "interpolation": "random", "size": 999}
    assert _preprocessor(given).canonical() == full
    one = _preprocessor({**SETTINGS["squash"], "mean": 0.5, "std": [0.5]}).canonical()
    assert one == _preprocessor(SETTINGS["squash"]).canonical() != full


def test_other_settings_are_refused():
    for settings in (
        {"resize_mode": "longest"},
        {"interpolation": "nearest"},
        {"mode": "L"},
        {"mean": [0.5, 0.5]},
        {"std": [1, 0, 1]},
        {"std": "wide"},
        {"mean": {"r": 1}},
    ):
        ((name, value),) = settings.items()
        told = rf"preprocess_cfg\W{name}\b.*" + re.escape(repr(value))
        with pytest.raises(ValueError, match=told):
            _preprocessor(settings)
