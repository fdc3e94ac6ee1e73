# SPDX-License-Identifier: Apache-2.0
"""Sizes are whole numbers of at least 1, or the config is refused clearly."""

import json

import pytest

from jaxalign.encoders import checkpoint
from jaxalign.encoders.configs import text_config, vision_config
from tests import tiny_encoders

SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
)
VISION_SIZES = (*SIZES, "image_size", "patch_size")
TEXT_SIZES = (*SIZES, "vocab_size", "max_position_embeddings")


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize("family", ["clip", "flava"])
def test_sizes_below_one_are_refused(family):
    for read, names in ((vision_config, VISION_SIZES), (text_config, TEXT_SIZES)):
        for name in names:
            for value in (0, -1):
                config = tiny_encoders.make_config(family)
                image = tiny_encoders.image_key(config)
                key = "text_config" if read is text_config else image
                setattr(getattr(config, key), name, value)
                with pytest.raises(ValueError, match=f"{name}={value}"):
                    read(config)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize("family", tiny_encoders.FAMILIES)
def test_checkpoints_of_a_zero_size_are_refused(family, tmp_path):
    config = tiny_encoders.make_config(family)
    for name in ("patch_size", "num_attention_heads"):
        values = config.to_dict()
        values[tiny_encoders.image_key(config)][name] = 0
        (tmp_path / "config.json").write_text(json.dumps(values))
        with pytest.raises(ValueError, match=f"{name}.*at least 1"):
            checkpoint.load_model(tmp_path)


def test_biases_of_attention_are_read_where_a_family_has_the_setting():
    for bias in (True, False):
        settings = {"text": {"qkv_bias": bias}, "vision": {"qkv_bias": not bias}}
        flava = tiny_encoders.make_config("flava", **settings)
        assert text_config(flava).qkv_bias == bias
        assert vision_config(flava).qkv_bias != bias
    clip = tiny_encoders.make_config("clip")
    assert text_config(clip).qkv_bias
    assert text_config(flava).eos_id is None


def test_ids_may_be_zero():
    config = tiny_encoders.make_config("clip", text={"eos_token_id": 0})
    assert text_config(config).eos_id == 0
