# SPDX-License-Identifier: Apache-2.0
"""Live comparison of pixels and token ids with the processors of `transformers`.

Left out by default, like `test_parity.py`, which compares the models; the processors
answer in torch tensors here, as users have them.
"""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxalign.data.openmoji_texts import caption
from jaxalign.encoders import hub
from jaxalign.encoders.preprocessing import ImagePreprocessor, TextPreprocessor
from tests import tiny_encoders
from tests.encoders import awkward
from tests.encoders.conftest import HUB_FOLDERS

pytestmark = pytest.mark.parity

drawn = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@pytest.fixture(
    params=[
        *hub.SHIPPED,
        *(f"tiny/{name}" for name in tiny_encoders.FAMILIES),
        *(f"hub/{name}" for name in HUB_FOLDERS),
    ]
)
def preprocessing(request, folders, hub_folders):
    """The shipped folders, the tiny ones and such as released ones are."""
    if request.param in hub.SHIPPED:
        return hub.find_folder(request.param)
    kind, name = request.param.split("/")
    return (folders if kind == "tiny" else hub_folders)[name]


# --- texts


@pytest.mark.parametrize("length", [12, 64])
def test_tokens_are_those_of_transformers(preprocessing, examples, length):
    ours = TextPreprocessor(preprocessing, length=length)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(preprocessing))
    processor = transformers.AutoProcessor.from_pretrained(
        str(preprocessing), backend="pil"
    )
    texts = [*awkward.TEXTS, *(caption(e["name"]) for e in examples)]
    options = dict(
        padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    )
    for theirs in (tokenizer, processor):
        expected = theirs(text=texts, **options)["input_ids"].numpy()
        assert expected.shape == (len(texts), length)
        np.testing.assert_array_equal(ours(texts)[0], expected)


# --- pictures


def _assert_same_pixels(ours, theirs, picture, name=""):
    # Where a folder does not ask for it, transformers fails over other modes than RGB.
    options = {} if picture.mode == "RGB" else {"do_convert_rgb": True}
    expected = theirs(picture, return_tensors="pt", **options)["pixel_values"].numpy()
    found = ours([picture]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(found, expected, err_msg=name)


def test_pixels_are_those_of_transformers(preprocessing, examples):
    ours = ImagePreprocessor(preprocessing)
    theirs = transformers.AutoImageProcessor.from_pretrained(
        str(preprocessing), backend="pil"
    )
    pictures = {
        **awkward.pictures(),
        **{e["id"]: Image.fromarray(e["image"]) for e in examples[:20]},
    }
    for name, picture in pictures.items():
        _assert_same_pixels(ours, theirs, picture, name)


def test_arrays_and_batches_are_those_of_transformers(preprocessing):
    ours = ImagePreprocessor(preprocessing)
    theirs = transformers.AutoImageProcessor.from_pretrained(
        str(preprocessing), backend="pil"
    )
    arrays = [np.asarray(awkward.noise(20 + i, 45 - i, seed=i)) for i in range(8)]
    expected = theirs(arrays, return_tensors="pt")["pixel_values"].numpy()
    np.testing.assert_array_equal(ours(arrays).transpose(0, 3, 1, 2), expected)


def _check_settings(values, pictures):
    with tempfile.TemporaryDirectory() as root:
        folder = awkward.write_settings(Path(root), values)
        theirs = transformers.AutoImageProcessor.from_pretrained(
            str(folder), backend="pil"
        )
        ours = ImagePreprocessor(folder)
        for picture in pictures:
            if awkward.by_hand(picture, values).shape == ours.shape:
                _assert_same_pixels(ours, theirs, picture)
                continue
            with pytest.raises(ValueError, match="crop to a square first"):
                ours([picture])


@drawn
@given(data=st.data(), values=awkward.image_settings("CLIPImageProcessor"))
def test_any_settings_of_clip_give_the_pixels_of_transformers(data, values):
    _check_settings(values, [data.draw(awkward.drawn_pictures()) for _ in range(3)])


@drawn
@given(data=st.data(), values=awkward.image_settings("SiglipImageProcessor"))
def test_any_settings_of_siglip_give_the_pixels_of_transformers(data, values):
    _check_settings(values, [data.draw(awkward.drawn_pictures()) for _ in range(3)])
