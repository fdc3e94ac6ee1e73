# SPDX-License-Identifier: Apache-2.0
"""Folders as released ones are: SigLIP 2's, SigLIP's and OpenAI's CLIP."""

import json

import numpy as np
import pytest
from transformers import AutoTokenizer

from jaxalign.encoders.checkpoint import CONFIG_FILE, load_model, read_config
from jaxalign.encoders.configs import text_config, vision_config
from jaxalign.encoders.families import find_family
from jaxalign.encoders.preprocessing import (
    IMAGE_FILE,
    PROCESSOR_FILE,
    TOKENIZER_SETTINGS,
    ImagePreprocessor,
    TextPreprocessor,
)
from jaxalign.encoders.pretrained import load_encoders
from tests import tiny_encoders
from tests.encoders import awkward
from tests.tiny_hub_folders import edit_json

PAD, EOS, BOS = 0, 1, 2  # of SigLIP 2
SIDE = tiny_encoders.IMAGE_SIZE


def _ids(folder, texts, length=64):
    return TextPreprocessor(folder, length=length)(texts)[0]


def _config(**settings):
    return {"model_type": "siglip", "text_config": {}, "vision_config": {}, **settings}


# --- texts


def test_texts_of_siglip2_end_once_and_are_padded_to_64(hub_folders):
    tokenize = TextPreprocessor(hub_folders["siglip2"], length=64)
    ids, mask = tokenize(["a red apple", "", "fish " * 100])
    assert ids.shape == (3, 64)
    lengths = mask.sum(axis=1) - 1
    assert 0 == lengths[1] < lengths[0] < lengths[2] == 63
    for row, length in zip(ids.tolist(), lengths, strict=True):
        # No begin token, one end token, then padding.
        assert row[length:] == [EOS] + [PAD] * (63 - length)
        assert not {PAD, EOS, BOS} & set(row[:length])


@pytest.mark.parametrize(
    ("name", "fold"), [("siglip2", str), ("siglip2-lowercase", str.lower)]
)
def test_texts_of_siglip2_are_kept_down_to_their_bytes(hub_folders, name, fold):
    tokenizer = AutoTokenizer.from_pretrained(str(hub_folders[name]))
    texts = ["A Red Apple", "É 中 😀 e\u0301", "  two  spaces ", "tab\tline\n"]
    for text, ids in zip(texts, _ids(hub_folders[name], texts), strict=True):
        assert tokenizer.decode(ids, skip_special_tokens=True) == fold(text)


def test_texts_are_cut_and_padded_as_transformers_does(hub_folder):
    tokenizer = AutoTokenizer.from_pretrained(str(hub_folder))
    for length in (12, 64):
        expected = tokenizer(
            awkward.TEXTS, padding="max_length", truncation=True, max_length=length
        )["input_ids"]
        np.testing.assert_array_equal(
            _ids(hub_folder, awkward.TEXTS, length), np.asarray(expected)
        )


def test_clip_reads_the_same_with_and_without_tokenizer_json(hub_folders):
    old, new = (
        _ids(hub_folders[name], awkward.TEXTS)
        for name in ("clip-openai-old", "clip-openai")
    )
    np.testing.assert_array_equal(old, new)
    # The text's end pads too, as the largest id, where the legacy rule pools.
    end = new.max()
    assert (new[0] == end).sum() == 63
    assert end == TextPreprocessor(hub_folders["clip-openai"], length=8).largest_id


@pytest.mark.parametrize("family", tiny_encoders.FAMILIES)
def test_another_padding_token_pads_and_is_masked(family, folders, tmp_path):
    copy = tiny_encoders.copy_folder(folders[family], tmp_path / "copy")
    edit_json(copy / TOKENIZER_SETTINGS, pad_token="apple")
    tokenizer = AutoTokenizer.from_pretrained(str(copy))
    assert tokenizer.pad_token_id > 0
    ids, mask = TextPreprocessor(copy, length=20)(["a red fish", ""])
    np.testing.assert_array_equal(ids[~mask], tokenizer.pad_token_id)
    assert 0 < mask[1].sum() < mask[0].sum() < 20


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("siglip-spiece", "spiece.model"),
        ("clip-openai-old", "vocab.json"),
        ("clip-openai-old", "merges.txt"),
    ],
)
def test_damaged_and_missing_pieces_are_refused(hub_folders, tmp_path, name, file):
    copy = tiny_encoders.copy_folder(hub_folders[name], tmp_path / "copy")
    for content in (b"[]", b"\xff\xfe", None):
        (copy / file).unlink()
        if content is not None:
            (copy / file).write_bytes(content)
        with pytest.raises(ValueError, match=f"name=.* in '{copy}'"):
            TextPreprocessor(copy, length=12)


# --- models


def test_a_config_of_few_keys_is_the_base_model(tmp_path):
    """The released configs of SigLIP 2 say little more than this."""
    text = {"model_type": "siglip_text_model", "vocab_size": 256000}
    vision = {"model_type": "siglip_vision_model"}
    values = _config(text_config=text, vision_config=vision)
    (tmp_path / CONFIG_FILE).write_text(json.dumps(values))
    config = read_config(tmp_path)
    text, vision = text_config(config), vision_config(config)
    assert (text.vocabulary, text.length, text.width) == (256000, 64, 768)
    assert (vision.image_size, vision.patch_size, vision.depth) == (224, 16, 12)
    assert text.activation == vision.activation == "gelu_pytorch_tanh"
    assert text.eos_id is None


def test_siglip_needs_no_ids_of_special_tokens(hub_folders, tmp_path):
    copy = tiny_encoders.copy_folder(hub_folders["siglip2"], tmp_path / "copy")
    values = json.loads((copy / CONFIG_FILE).read_text())
    assert "eos_token_id" not in values["text_config"]
    unsaid = load_encoders(copy)
    assert unsaid.dim == tiny_encoders.DIM
    none = {"eos_token_id": None, "pad_token_id": None}
    edit_json(copy / CONFIG_FILE, text_config={**values["text_config"], **none})
    assert load_encoders(copy).space == unsaid.space


def test_a_tower_without_pooling_head_is_refused(tmp_path):
    values = _config(vision_config={"vision_use_head": False})
    (tmp_path / CONFIG_FILE).write_text(json.dumps(values))
    with pytest.raises(ValueError, match="vision_use_head"):
        load_model(tmp_path)


def test_naflex_is_refused_and_fixed_resolution_named():
    with pytest.raises(ValueError, match=r"='siglip2'.*siglip2-base-patch16-224"):
        find_family("siglip2")


# --- spaces


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("siglip2", {"tokenizer_class": "Siglip2Tokenizer"}),
        ("siglip2", {"padding_side": "left"}),
        ("siglip-spiece", {"do_lower_case": False}),
    ],
)
def test_settings_that_change_ids_change_the_space(
    hub_folders, tmp_path, name, settings
):
    """They lie beside the tokenizer's own file."""
    copy = tiny_encoders.copy_folder(hub_folders[name], tmp_path / "copy")
    edit_json(copy / TOKENIZER_SETTINGS, **settings)
    before, after = (
        TextPreprocessor(folder, length=12) for folder in (hub_folders[name], copy)
    )
    assert (before(["A fish"])[0] != after(["A fish"])[0]).any()
    assert before.canonical() != after.canonical()


def test_special_tokens_of_other_files_change_the_space(folders, tmp_path):
    copy = tiny_encoders.copy_folder(folders["clip"], tmp_path / "copy")
    edit_json(copy / TOKENIZER_SETTINGS, additional_special_tokens=["fish"])
    before, after = (
        TextPreprocessor(folder, length=12) for folder in (folders["clip"], copy)
    )
    assert (before(["a red fish"])[0] != after(["a red fish"])[0]).any()
    assert before.canonical() != after.canonical()


def test_names_of_one_tokenizer_are_one_space(hub_folders, tmp_path):
    copy = tiny_encoders.copy_folder(hub_folders["siglip2"], tmp_path / "copy")
    edit_json(copy / TOKENIZER_SETTINGS, tokenizer_class="GemmaTokenizerFast")
    before, after = (
        TextPreprocessor(folder, length=12) for folder in (hub_folders["siglip2"], copy)
    )
    assert before.canonical() == after.canonical()


# --- pictures


def test_old_names_of_clip_settings_are_read(hub_folders):
    preprocess = ImagePreprocessor(hub_folders["clip-openai"])
    settings = json.loads((hub_folders["clip-openai"] / IMAGE_FILE).read_text())
    assert preprocess.shape == (SIDE, SIDE, 3)
    filled = {"do_rescale": True, "rescale_factor": 1 / 255, **settings}
    picture = awkward.noise(31, 20)
    found = preprocess([picture])[0]
    # One rounding each of the pixel, its share of 255 and the quotient, near 2.7.
    bound = 16 * float(np.finfo(np.float32).eps)
    expected = awkward.by_hand(picture, filled)
    np.testing.assert_allclose(found, expected, atol=bound, rtol=0)


def _nest_settings(folder, tmp_path):
    """Copy a folder, its image settings as `AutoProcessor.save_pretrained` does."""
    copy = tiny_encoders.copy_folder(folder, tmp_path / "copy", without=(IMAGE_FILE,))
    settings = json.loads((folder / IMAGE_FILE).read_text())
    whole = {"image_processor": settings, "processor_class": "SiglipProcessor"}
    edit_json(copy / PROCESSOR_FILE, **whole)
    return copy


@pytest.mark.parametrize("family", tiny_encoders.FAMILIES)
def test_settings_inside_processor_config_are_found(family, folders, loaded, tmp_path):
    copy = _nest_settings(folders[family], tmp_path)
    nested, plain = load_encoders(copy), loaded[family]
    pictures = tiny_encoders.pictures(2)
    np.testing.assert_array_equal(
        nested.preprocess_images(pictures), plain.preprocess_images(pictures)
    )
    assert nested.space == plain.space


def test_errors_name_the_file_that_was_read(folders, tmp_path):
    copy = _nest_settings(folders["clip"], tmp_path)
    settings = json.loads((copy / PROCESSOR_FILE).read_text())["image_processor"]
    sides = {"height": 16, "width": 16}
    settings.update(size=sides, crop_size=sides)
    edit_json(copy / PROCESSOR_FILE, image_processor=settings)
    with pytest.raises(ValueError, match=f"`preprocess_images`.*{PROCESSOR_FILE}"):
        load_encoders(copy).preprocess_images(tiny_encoders.pictures(1))
    (copy / PROCESSOR_FILE).write_text("{")
    with pytest.raises(ValueError, match=PROCESSOR_FILE):
        ImagePreprocessor(copy)


def test_a_processor_config_without_pictures_counts_for_nothing(
    folders, loaded, tmp_path
):
    copy = tiny_encoders.copy_folder(folders["siglip"], tmp_path / "copy")
    edit_json(copy / PROCESSOR_FILE, processor_class="SiglipProcessor")
    assert load_encoders(copy).space == loaded["siglip"].space
    (copy / IMAGE_FILE).unlink()
    with pytest.raises(ValueError, match=IMAGE_FILE):
        load_encoders(copy).preprocess_images(tiny_encoders.pictures(1))
