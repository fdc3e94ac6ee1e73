# SPDX-License-Identifier: Apache-2.0
"""OpenCLIP folders give OpenCLIP's stored rows, and its other models are refused."""

import json
import re

import numpy as np
import pytest
import safetensors.numpy

from jaxalign.encoders.checkpoint import save_model
from jaxalign.encoders.clip import LEGACY_EOS_ID
from jaxalign.encoders.configs import (
    TextConfig,
    VisionConfig,
    text_config,
    vision_config,
)
from jaxalign.encoders.open_clip import (
    OPEN_CLIP_WEIGHTS,
    is_open_clip,
    read_open_clip,
)
from jaxalign.encoders.open_clip_config import OPEN_CLIP_CONFIG, read_settings
from jaxalign.encoders.pretrained import load_encoders
from tests import tiny_encoders
from tests.encoders import goldens

VARIANTS = ("openclip-gelu", "openclip-quick-gelu", "openclip-custom-text")
# timm's configs say nothing of a model type.
TIMM_CONFIG = {"architecture": "vit_base_patch32_clip_224", "num_classes": 512}
BLOCK = "visual.transformer.resblocks.1"


@pytest.fixture
def folder(tmp_path):
    """A folder of weights and settings that a test may spoil."""
    return tiny_encoders.copy_folder(
        goldens.FOLDER / "openclip-gelu", tmp_path / "folder"
    )


def _edit(folder, change):
    path = folder / OPEN_CLIP_CONFIG
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def _set(folder, section, **settings):
    """Replace settings of `model_cfg`, or of one of its towers."""

    def change(values):
        model = values["model_cfg"]
        (model if section == "model_cfg" else model[section]).update(settings)

    _edit(folder, change)


def _rewrite(folder, change):
    path = folder / OPEN_CLIP_WEIGHTS
    tensors = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file(change(tensors) or tensors, path)


def _rows(folder):
    stored = safetensors.numpy.load_file(folder / "io.safetensors")
    encoders = load_encoders(folder)
    image_rows = encoders.encode_image(stored["pixels"])
    text_rows = encoders.encode_text(stored["ids"])
    return np.asarray(image_rows), np.asarray(text_rows)


def _write_transformers(folder, source):
    """Write an OpenCLIP folder's model as a transformers folder."""
    checkpoint = read_open_clip(source)
    state, config = checkpoint.place()[1], checkpoint.config
    save_model(folder, state, config)
    return folder


# --- rows


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_equal_the_goldens(variant):
    stored = safetensors.numpy.load_file(goldens.FOLDER / variant / "io.safetensors")
    images, texts = _rows(goldens.FOLDER / variant)
    goldens.assert_same_rows(images, stored["image_rows"])
    goldens.assert_same_rows(texts, stored["text_rows"])


@pytest.fixture(scope="module")
def space():
    """Of the model that `folder` holds, unspoilt."""
    return load_encoders(goldens.FOLDER / "openclip-gelu").space


def test_other_ways_of_storing_change_no_row(folder, space):
    def change(tensors):
        tensors["attn_mask"] = np.full((9, 9), -np.inf, np.float32)
        tensors["logit_bias"] = np.full(1, -10.0, np.float32)
        tensors["logit_scale"] = tensors["logit_scale"].reshape(1)

    _rewrite(folder, change)
    _set(folder, "vision_cfg", patch_dropout=0.5, qk_norm=False, timm_model_name=None)
    _set(folder, "text_cfg", pool_type="argmax", eos_id=7, hf_model_name="")
    # True: as stored before text towers had names of their own.
    for custom_text in (False, True):
        _set(folder, "model_cfg", custom_text=custom_text, init_logit_bias=-10)
        assert load_encoders(folder).space == space


def test_text_towers_may_have_names_of_their_own(folder, space):
    outside = ("visual.", "logit_scale")

    def rename(tensors):
        return {
            name if name.startswith(outside) else f"text.{name}": tensor
            for name, tensor in tensors.items()
        }

    _rewrite(folder, rename)
    _set(folder, "model_cfg", custom_text=True)
    assert load_encoders(folder).space == space


@pytest.mark.parametrize("variant", VARIANTS)
def test_settings_are_those_of_the_same_model_in_transformers(variant):
    config = read_settings(goldens.FOLDER / variant).model
    vision, text = vision_config(config), text_config(config)
    quick = variant == "openclip-quick-gelu"
    assert vision.activation == text.activation == ("quick_gelu" if quick else "gelu")
    assert vision.epsilon == text.epsilon == 1e-5
    # Cut, not rounded: 20 * 1.47 = 29.4.
    assert vision.hidden == (29 if quick else 30)
    assert text.hidden == (32 if quick else 64)
    assert (vision.heads, text.heads) == (2, 4)
    assert config.projection_dim == 18
    assert text.eos_id == LEGACY_EOS_ID


def test_sizes_that_are_left_out_are_those_of_open_clip(folder):
    towers = {"vision_cfg": {}, "text_cfg": {}}
    _edit(folder, lambda values: values["model_cfg"].update(embed_dim=512, **towers))
    config = read_settings(folder).model
    assert vision_config(config) == VisionConfig(
        width=768,
        depth=12,
        heads=12,
        hidden=3072,
        activation="gelu",
        epsilon=1e-5,
        qkv_bias=True,
        image_size=224,
        patch_size=16,
    )
    assert text_config(config) == TextConfig(
        width=512,
        depth=12,
        heads=8,
        hidden=2048,
        activation="gelu",
        epsilon=1e-5,
        qkv_bias=True,
        vocabulary=49408,
        length=77,
        eos_id=LEGACY_EOS_ID,
    )


# --- spaces and folders


def test_the_same_weights_are_the_same_space_in_either_format(folder, tmp_path):
    _edit(folder, lambda values: values.pop("preprocess_cfg"))
    other = _write_transformers(tmp_path / "other", folder)
    spaces = [load_encoders(f).space for f in (folder, other)]
    assert spaces[0] == spaces[1]
    # With the files of either kind of folder, too.
    tokenizer = tiny_encoders.make_tokenizer("clip")
    vocabulary = len(tokenizer)
    _rewrite(folder, lambda tensors: _widen(tensors, vocabulary))
    _set(folder, "text_cfg", vocab_size=vocabulary)
    _write_transformers(other, folder)
    for each in (folder, other):
        tokenizer.save_pretrained(each)
        tiny_encoders.make_processor("clip").save_pretrained(each)
    # As in timm's repositories.
    (folder / "config.json").write_text(json.dumps(TIMM_CONFIG))
    mine, theirs = load_encoders(folder), load_encoders(other)
    assert mine.space == theirs.space != spaces[0]
    texts, pictures = ["a red apple", "fish"], tiny_encoders.pictures(2)
    with pytest.raises(ValueError, match="ids=.*from 1 to 9 "):
        mine.encode_text(np.zeros((1, 12), np.int32))
    np.testing.assert_equal(mine.tokenize(texts), theirs.tokenize(texts))
    np.testing.assert_array_equal(
        mine.preprocess_images(pictures), theirs.preprocess_images(pictures)
    )


def _widen(tensors, vocabulary):
    """Give the text tower rows for a whole vocabulary."""
    rng = np.random.default_rng(0)
    table = rng.normal(0, 0.2, (vocabulary, 16)).astype(np.float32)
    tensors["token_embedding.weight"] = table


def test_pictures_are_part_of_the_space_and_texts_need_a_tokenizer(folder, space):
    encoders, pictures = load_encoders(folder), tiny_encoders.pictures(4)
    rows = encoders.embed_images(pictures)
    pixels = encoders.preprocess_images(pictures)
    np.testing.assert_array_equal(rows, encoders.encode_image(pixels))
    with pytest.raises(ValueError, match="`tokenize`"):
        encoders.embed_texts(["a fish"])
    _edit(folder, lambda values: values["preprocess_cfg"].update(resize_mode="squash"))
    assert load_encoders(folder).space != space
    _edit(folder, lambda values: values.pop("preprocess_cfg"))
    with pytest.raises(ValueError, match=r"preprocessor_config\.json"):
        load_encoders(folder).embed_images(pictures)


def test_a_whole_transformers_checkpoint_is_preferred(folder):
    weights = {"model.safetensors": ""}
    for others, expected in (
        ({}, True),
        ({"config.json": json.dumps(TIMM_CONFIG)} | weights, True),
        ({"config.json": '{"model_type": "clip"}'}, True),
        ({"config.json": "{"} | weights, True),
        ({"config.json": "[]"} | weights, True),
        ({"config.json": '{"model_type": ["clip"]}'} | weights, True),
        (weights, True),
        ({"config.json": '{"model_type": "clip"}'} | weights, False),
        (
            {
                "config.json": '{"model_type": "siglip"}',
                "model.safetensors.index.json": "{}",
            },
            False,
        ),
    ):
        for name, content in others.items():
            (folder / name).write_text(content)
        assert is_open_clip(folder) == expected, others
        for name in others:
            (folder / name).unlink()


def test_a_folder_of_both_is_read_as_transformers(folder):
    _edit(folder, lambda values: values.pop("preprocess_cfg"))
    space = load_encoders(folder).space
    _write_transformers(folder, folder)
    # Not even looked at any more.
    (folder / OPEN_CLIP_CONFIG).write_text("{")
    (folder / OPEN_CLIP_WEIGHTS).unlink()
    assert load_encoders(folder).space == space


def test_a_folder_without_settings_is_none_of_open_clip(tmp_path):
    assert not is_open_clip(tmp_path / "nowhere")
    (tmp_path / OPEN_CLIP_WEIGHTS).touch()
    assert not is_open_clip(tmp_path)


def test_a_projection_with_a_bias_is_no_model_of_transformers(tmp_path):
    checkpoint = read_open_clip(goldens.FOLDER / "openclip-custom-text")
    state, config = checkpoint.place()[1], checkpoint.config
    with pytest.raises(ValueError, match="state=.*config="):
        save_model(tmp_path, state, config)


# --- refusals


OTHER_MODELS = (
    ("model_cfg", {"multimodal_cfg": {"width": 512}}),
    ("model_cfg", {"audio_cfg": {"layers": 2}}),
    ("vision_cfg", {"timm_model_name": "vit_base_patch16_siglip_224"}),
    ("vision_cfg", {"layers": [3, 4, 6, 3]}),
    ("vision_cfg", {"ls_init_value": 1e-4}),
    ("vision_cfg", {"attentional_pool": "parallel"}),
    ("vision_cfg", {"no_ln_pre": True}),
    ("vision_cfg", {"pool_type": "avg"}),
    ("vision_cfg", {"final_ln_after_pool": True}),
    ("vision_cfg", {"input_patchnorm": True}),
    ("vision_cfg", {"qk_norm": True}),
    ("vision_cfg", {"act_kwargs": {"approximate": "tanh"}}),
    ("vision_cfg", {"norm_kwargs": {"eps": 1e-6}}),
    ("vision_cfg", {"pos_embed_type": "rotary"}),
    ("vision_cfg", {"block_type": "custom"}),
    ("text_cfg", {"hf_model_name": "xlm-roberta-base"}),
    ("text_cfg", {"no_causal_mask": True}),
    ("text_cfg", {"pool_type": "eos"}),
    ("text_cfg", {"embed_cls": True}),
    ("text_cfg", {"proj_type": "none"}),
    ("text_cfg", {"scale_fc": True}),
    ("text_cfg", {"tokenizer_kwargs": {"clean": "canonicalize"}}),
)


def test_other_models_are_refused_by_name_and_value(folder):
    whole = (folder / OPEN_CLIP_CONFIG).read_text()
    for section, settings in OTHER_MODELS:
        (folder / OPEN_CLIP_CONFIG).write_text(whole)
        _set(folder, section, **settings)
        ((name, value),) = settings.items()
        told = re.escape(f"got {section}.{name} = {json.dumps(value)};")
        with pytest.raises(ValueError, match=told):
            read_settings(folder)


def test_all_settings_of_another_model_are_named_at_once(folder):
    _set(folder, "vision_cfg", timm_model_name="vit_base", pool_type="avg")
    _set(folder, "text_cfg", no_causal_mask=True)
    expected = (
        'got vision_cfg.timm_model_name = "vit_base"; vision_cfg.pool_type = "avg"; '
        "text_cfg.no_causal_mask = true; jaxalign"
    )
    with pytest.raises(ValueError, match=expected):
        load_encoders(folder)


WRONG_SIZES = (
    ("model_cfg", "embed_dim", None, "=None.*whole number of at least 1"),
    ("vision_cfg", "width", "20", "='20'.*whole number of at least 1"),
    ("vision_cfg", "layers", True, "=True.*whole number of at least 1"),
    ("vision_cfg", "image_size", 0, "=0.*whole number of at least 1"),
    ("vision_cfg", "head_width", 6, "a divisor of the width, 20.*got 6"),
    ("vision_cfg", "head_width", 64, "a divisor of the width, 20.*got 64"),
    ("vision_cfg", "mlp_ratio", "4", 'a positive number.*got "4"'),
    ("vision_cfg", "mlp_ratio", 0, "a positive number.*got 0"),
    ("text_cfg", "heads", 3, "a divisor of the width, 16.*got 3"),
    ("model_cfg", "vision_cfg", None, "a JSON object.*got null"),
    ("model_cfg", "text_cfg", [1], r"a JSON object.*got \[1\]"),
)


def test_wrong_sizes_are_refused_by_name(folder):
    whole = (folder / OPEN_CLIP_CONFIG).read_text()
    for section, name, value, expected in WRONG_SIZES:
        (folder / OPEN_CLIP_CONFIG).write_text(whole)
        _set(folder, section, **{name: value})
        with pytest.raises(ValueError, match=f"{name}.*{expected}"):
            read_settings(folder)


def test_damaged_settings_are_refused(folder):
    for content, told in (
        (b"", OPEN_CLIP_CONFIG),
        (b'{"model_cfg": {', OPEN_CLIP_CONFIG),
        (b"[]", f"{OPEN_CLIP_CONFIG}.*list"),
        (b"{}", "model_cfg.* got null"),
        (b'{"embed_dim": 18}', "model_cfg.* got null"),
    ):
        (folder / OPEN_CLIP_CONFIG).write_bytes(content)
        with pytest.raises(ValueError, match=told):
            load_encoders(folder)


def test_missing_extra_and_misshaped_tensors_are_listed_at_once(folder):
    def spoil(tensors):
        del tensors["ln_final.bias"], tensors["logit_scale"]
        tensors["visual.ls"] = np.zeros(2, np.float32)
        fused = f"{BLOCK}.attn.in_proj_weight"
        tensors[fused] = tensors[fused][:40].copy()
        tensors["visual.proj"] = np.full_like(tensors["visual.proj"], np.nan)
        fused = f"{BLOCK}.attn.in_proj_bias"
        tensors[fused] = np.full_like(tensors[fused], np.inf)

    _rewrite(folder, spoil)
    with pytest.raises(ValueError, match=OPEN_CLIP_CONFIG) as caught:
        load_encoders(folder)
    told, _, remedy = str(caught.value).rpartition(";")
    assert told.split("\n")[1:] == [
        "missing:",
        "  ln_final.bias",
        "  logit_scale",
        "extra:",
        "  visual.ls",
        "misshaped:",
        f"  {BLOCK}.attn.in_proj_weight: expected (60, 20), got (40, 20)",
        "not finite floating numbers:",
        f"  {BLOCK}.attn.in_proj_bias",
        "  visual.proj",
    ]
    assert f"check {OPEN_CLIP_CONFIG} against the weights" in remedy


def test_pickled_weights_are_never_read(folder):
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"\x80\x04N.")
    load_encoders(folder)
    (folder / OPEN_CLIP_WEIGHTS).unlink()
    with pytest.raises(ValueError, match="open_clip_pytorch_model.bin"):
        load_encoders(folder)


def test_missing_and_damaged_weights_are_refused(folder):
    path = folder / OPEN_CLIP_WEIGHTS
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=OPEN_CLIP_WEIGHTS):
        load_encoders(folder)
    path.unlink()
    with pytest.raises(ValueError, match=OPEN_CLIP_WEIGHTS):
        load_encoders(folder)
