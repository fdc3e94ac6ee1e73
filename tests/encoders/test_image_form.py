# SPDX-License-Identifier: Apache-2.0
"""One form for settings of equal pixels as far as they can tell, another for others."""

import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxalign.encoders.image_form import image_form
from jaxalign.encoders.preprocessing import IMAGE_FILE, ImagePreprocessor
from tests.encoders import awkward

# Of Pillow, by some versions of transformers.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Palette images with Transparency:UserWarning"
)

SIDES = {"height": 12, "width": 12}
SIZES = {"size": {"shortest_edge": 12}, "crop_size": SIDES}
CLIP = {"image_processor_type": "CLIPImageProcessor", **SIZES}
SPELT_OUT = {
    **CLIP,
    "crop_size": SIDES,
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 1 / 255,
}
SIGLIP = {"image_processor_type": "SiglipImageProcessor", "size": SIDES}
PICTURES = [awkward.noise(40, 23), awkward.noise(12, 31), *awkward.pictures().values()]


def _read(folder, settings):
    (folder / IMAGE_FILE).write_text(json.dumps(settings))
    return ImagePreprocessor(folder)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (CLIP, SPELT_OUT),
        (CLIP, {**CLIP, "size": 12, "crop_size": 12}),
        (CLIP, {**SIZES, "feature_extractor_type": "CLIPFeatureExtractor"}),
        (CLIP, {**SPELT_OUT, "processor_class": "CLIPProcessor", "do_pad": False}),
        (SIGLIP, {**SIGLIP, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5] * 3}),
        (SIGLIP, {**SIGLIP, "crop_size": SIDES, "do_center_crop": False}),
        (
            {**SIGLIP, "do_normalize": False},
            {**SIGLIP, "do_normalize": False, "image_mean": [0.1, 0.2, 0.3]},
        ),
        ({**SIGLIP, "image_mean": [0, 0, 0]}, {**SIGLIP, "image_mean": [0.0] * 3}),
        ({**SIGLIP, "do_convert_rgb": None}, {**SIGLIP, "do_convert_rgb": False}),
    ],
)
def test_ways_of_saying_the_same(tmp_path, one, other):
    first, second = _read(tmp_path, one), _read(tmp_path, other)
    for picture in PICTURES:
        np.testing.assert_array_equal(first([picture]), second([picture]))
    assert first.canonical() == second.canonical()


CHANGES = {
    "resample": st.sampled_from([0, 1, 2, 3, 4, 5, None]),
    "image_mean": st.sampled_from([[0.5] * 3, [0.5, 0.5, 0.4999], [0, 0, 0], None]),
    "image_std": st.sampled_from([[0.5] * 3, [0.5, 0.5, 0.4999], [1, 1, 1], None]),
    "rescale_factor": st.sampled_from([1 / 255, 1 / 256, 1, None]),
    "size": st.sampled_from(
        [SIDES, {"height": 14, "width": 14}, {"shortest_edge": 13}]
    ),
    "crop_size": st.sampled_from([SIDES, {"height": 10, "width": 10}]),
    **{
        f"do_{step}": st.sampled_from([True, False, None])
        for step in ("center_crop", "convert_rgb", "normalize", "rescale")
    },
}


def _pixels(preprocess):
    """Pixels of all pictures, or what went wrong: such as other shapes."""
    made = []
    for picture in PICTURES:
        try:
            made.append(preprocess([picture]).tobytes())
        except ValueError as error:
            made.append(type(error).__name__)
    return preprocess.shape, made


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    base=st.sampled_from([CLIP, SIGLIP]),
    changes=st.fixed_dictionaries({}, optional=CHANGES),
)
def test_whatever_changes_a_pixel_changes_the_form(tmp_path_factory, base, changes):
    folder = tmp_path_factory.mktemp("settings")
    try:
        before, after = _read(folder, base), _read(folder, {**base, **changes})
    except ValueError:  # settings that make no pixels
        hypothesis.reject()
    if _pixels(before) != _pixels(after):
        assert before.canonical() != after.canonical()
        # By the settings alone; that some pixels are kept too is for other classes.
        assert image_form(before._processor) != image_form(after._processor)
