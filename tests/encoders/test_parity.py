# SPDX-License-Identifier: Apache-2.0
"""Live comparison with `transformers` on torch, in both directions.

Left out by default; run with the extra `parity` installed:

    python -m pytest -m parity tests/encoders

What goes into the models is compared in `test_parity_preprocessing.py`.

Torch is imported in the tests, so that this file can be collected without it; where
it is missing they fail.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import transformers
from flax import nnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxalign.data.openmoji_texts import caption
from jaxalign.encoders import hub, pretrained
from jaxalign.encoders.checkpoint import (
    abstract_model,
    load_model,
    match_names,
    parameter_paths,
    save_model,
)
from jaxalign.encoders.configs import text_config, vision_config
from jaxalign.encoders.families import FAMILIES
from tests import tiny_encoders
from tests.encoders import awkward, goldens

pytestmark = pytest.mark.parity

drawn = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


# --- transformers' rows


def _reference(folder):
    """Load a folder by `transformers`, as a user would."""
    # What the config calls it: of FLAVA, the tower's model or the one for training.
    settings = json.loads((Path(folder) / "config.json").read_text())
    model = getattr(transformers, settings["architectures"][0])
    loaded, report = model.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return getattr(loaded, "flava", loaded).eval()


def _unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _compared(model, rows):
    """Return the rows that a family compares: of FLAVA's tokens, the first."""
    return rows[:, 0] if model.config.model_type == "flava" else rows


def _reference_images(model, pixels):
    import torch

    with torch.no_grad():
        planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        rows = model.get_image_features(pixel_values=planes).pooler_output
        rows = _compared(model, rows)
    assert rows.dtype == torch.float32
    return _unit(rows.numpy())


def _reference_texts(model, ids, mask=None):
    import torch

    with torch.no_grad():
        rows = model.get_text_features(
            input_ids=torch.from_numpy(np.asarray(ids, np.int64)),
            attention_mask=None
            if mask is None
            else torch.from_numpy(np.asarray(mask, np.int64)),
        ).pooler_output
        rows = _compared(model, rows)
    return _unit(rows.numpy())


def _assert_close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(_unit(found) - expected).max() <= goldens.MAX_ABS


# --- drawn configurations


@st.composite
def _towers(draw, family):
    """Draw a config: every size and rule that the family leaves open."""
    activation = st.sampled_from(["quick_gelu", "gelu", "gelu_pytorch_tanh", "relu"])

    def tower():
        heads = draw(st.integers(1, 4))
        return dict(
            hidden_size=heads * draw(st.integers(2, 8)),
            num_attention_heads=heads,
            intermediate_size=draw(st.integers(3, 40)),
            num_hidden_layers=draw(st.integers(1, 3)),
            hidden_act=draw(activation),
            layer_norm_eps=draw(st.sampled_from([1e-5, 1e-6, 1e-3])),
        )

    patch = draw(st.integers(1, 6))
    grid, beyond = draw(st.integers(1, 4)), draw(st.integers(0, patch - 1))
    vision = {**tower(), "patch_size": patch, "image_size": patch * grid + beyond}
    text = {
        **tower(),
        "vocab_size": draw(st.integers(8, 80)),
        "max_position_embeddings": draw(st.integers(2, 20)),
        "bos_token_id": 3,
        "eos_token_id": draw(st.sampled_from([1, 2, 5])),
        "pad_token_id": 0,
    }
    if family == "flava":
        return _flava(draw, text, vision)
    if family == "clip":
        return transformers.CLIPConfig(
            text_config=text,
            vision_config=vision,
            projection_dim=draw(st.integers(2, 30)),
        )
    # The rows of both towers have the image tower's width.
    text["projection_size"] = vision["hidden_size"]
    if draw(st.booleans()):
        text.update(
            hidden_size=vision["hidden_size"],
            num_attention_heads=vision["num_attention_heads"],
        )
        del text["projection_size"]
    return transformers.SiglipConfig(text_config=text, vision_config=vision)


def _flava(draw, text, vision):
    """Add what FLAVA alone leaves open; keep what is left unread small."""
    for tower in (text, vision):
        tower["qkv_bias"] = draw(st.booleans())
    text["type_vocab_size"] = draw(st.integers(1, 3))
    vision["mask_token"] = draw(st.booleans())
    del text["bos_token_id"], text["eos_token_id"]
    part = dict(hidden_size=4, num_attention_heads=1, intermediate_size=4)
    return transformers.FlavaConfig(
        text_config=text,
        image_config={**vision, "vocab_size": 4},
        multimodal_config={**part, "num_hidden_layers": 1},
        image_codebook_config=dict(
            num_blocks_per_group=1, hidden_size=4, vocab_size=4, freeze=False
        ),
        hidden_size=4,
        projection_dim=draw(st.integers(2, 30)),
    )


def _inputs(config, seed, *, rows=3):
    """Draw pixels, ids with one largest id and an end, and a mask."""
    rng = np.random.default_rng(seed)
    text, size = text_config(config), vision_config(config).image_size
    length, vocabulary = text.length, text.vocabulary
    pixels = rng.standard_normal((rows, size, size, 3)).astype(np.float32)
    ids = rng.integers(0, vocabulary - 1, (rows, length))
    ids[:, rng.integers(length)] = vocabulary - 1
    ids[:, rng.integers(length)] = 1 if text.eos_id is None else text.eos_id
    mask = rng.random((rows, length)) < 0.7
    mask[:, 0] = True
    return pixels, ids.astype(np.int32), mask


def _assert_models_agree(folder, config, seed):
    graph, state, read = load_model(folder)
    ours, theirs = nnx.merge(graph, state), _reference(folder)
    pixels, ids, mask = _inputs(config, seed)
    inputs = {"pixels": pixels, "ids": ids, "mask": mask}
    expected = {
        "image_rows": _reference_images(theirs, pixels),
        "text_rows": _reference_texts(theirs, ids),
        "masked_text_rows": _reference_texts(theirs, ids, mask),
    }
    found = goldens.features(ours, inputs)
    for name, rows in expected.items():
        _assert_close(found[name], rows)
    assert float(ours.logit_scale[...]) == theirs.logit_scale.item()
    if config.model_type in tiny_encoders.WRITTEN:
        _assert_transformers_reads_what_we_write(state, read, theirs)


def _assert_transformers_reads_what_we_write(state, config, expected):
    """The same parameters and settings, and none is missing or extra."""
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder, state, config)
        found = _reference(folder)
    parameters = dict(found.named_parameters())
    for name, parameter in expected.named_parameters():
        assert parameters.pop(name).equal(parameter), name
    assert not parameters
    for read in (vision_config, text_config):
        assert read(found.config) == read(expected.config)


def _read_what_torch_writes(config, seed, *, auto=transformers.AutoModel):
    import torch

    model = auto.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        _assert_models_agree(folder, config, seed)


@drawn
@given(config=_towers("clip"), seed=st.integers(0, 99))
def test_clip_is_read_and_written_as_transformers_does(config, seed):
    _read_what_torch_writes(config, seed)


@drawn
@given(config=_towers("siglip"), seed=st.integers(0, 99))
def test_siglip_is_read_and_written_as_transformers_does(config, seed):
    _read_what_torch_writes(config, seed)


@drawn
@given(config=_towers("flava"), seed=st.integers(0, 99))
def test_flava_is_read_as_transformers_writes_it(config, seed):
    _read_what_torch_writes(config, seed)


@settings(drawn, max_examples=4)
@given(config=_towers("flava"), seed=st.integers(0, 99))
def test_flava_for_training_is_read_as_transformers_writes_it(config, seed):
    _read_what_torch_writes(config, seed, auto=transformers.AutoModelForPreTraining)


def test_every_tensor_of_a_full_size_flava_is_read_or_known_to_be_unread():
    """By shapes alone: the defaults are those of the released checkpoint."""
    import torch

    config, family = transformers.FlavaConfig(), FAMILIES["flava"]
    with torch.device("meta"):
        model = transformers.FlavaForPreTraining(config)
    stored = {
        # NumPy arrays of these shapes that take no memory.
        name: np.broadcast_to(np.float32(0), tuple(tensor.shape))
        for name, tensor in model.state_dict().items()
    }
    read, rules = match_names(family, config, stored)
    shapes = parameter_paths(abstract_model(family, config)[1])
    expected = {
        rule.tensor: rule.layout.write(np.empty(shapes[rule.parameter], np.int8)).shape
        for rule in rules
    }
    assert {name: tensor.shape for name, tensor in read.items()} == expected
    unused = {name.removeprefix("flava.") for name in set(stored) - set(read)}
    for beginning in family.unread:  # each is of a tensor that exists
        assert any(name.startswith(beginning) for name in unused), beginning


def test_pictures_and_texts_through_a_whole_flava_folder(tmp_path):
    """As its users run it: padded to one length, with the tokenizer's mask."""
    tokenizer = tiny_encoders.make_tokenizer("flava")
    processor = tiny_encoders.make_processor("flava")
    config = tiny_encoders.make_config("flava", vocabulary=len(tokenizer))
    model = transformers.FlavaForPreTraining(config)
    for part in (model, tokenizer, processor):
        part.save_pretrained(tmp_path)
    ours, theirs = pretrained.load_encoders(tmp_path), _reference(tmp_path)
    texts = [*tiny_encoders.CORPUS[::7], *awkward.TEXTS]
    encoded = tokenizer(texts, padding="max_length", truncation=True)
    expected = _reference_texts(theirs, encoded["input_ids"], encoded["attention_mask"])
    _assert_close(ours.embed_texts(texts), expected)
    pictures = tiny_encoders.pictures(5)
    planes = np.stack(processor(pictures)["pixel_values"]).transpose(0, 2, 3, 1)
    _assert_close(ours.embed_images(pictures), _reference_images(theirs, planes))


# --- the shipped pairs


@pytest.fixture(params=hub.SHIPPED)
def shipped(request):
    return request.param


def _folder(name):
    folder = hub.find_folder(name)
    assert (folder / "model.safetensors").is_file(), f"{folder} is not shipped"
    return folder


def test_shipped_rows_are_those_of_transformers(shipped, examples):
    import torch

    # The folder's tensors are float16; its config asks for float32.
    theirs = _reference(_folder(shipped))
    assert {p.dtype for p in theirs.parameters()} == {torch.float32}
    ours = pretrained.load_encoders(shipped)
    processor = transformers.AutoImageProcessor.from_pretrained(
        str(_folder(shipped)), backend="pil"
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(_folder(shipped)))
    images = [e["image"] for e in examples]
    texts = [caption(e["name"]) for e in examples]
    pixels = processor([Image.fromarray(i) for i in images], return_tensors="np")
    planes = np.asarray(pixels["pixel_values"]).transpose(0, 2, 3, 1)
    ids = tokenizer(texts, padding="max_length", truncation=True)["input_ids"]
    assert len(images) >= 20
    _assert_close(ours.embed_images(images), _reference_images(theirs, planes))
    _assert_close(ours.embed_texts(texts), _reference_texts(theirs, ids))


def test_a_shipped_model_written_again_is_read_by_transformers(
    shipped, examples, tmp_path
):
    graph, state, config = load_model(_folder(shipped))
    save_model(tmp_path, state, config)
    again, first = _reference(tmp_path), _reference(_folder(shipped))
    pixels = np.random.default_rng(0).standard_normal(
        (2, config.vision_config.image_size, config.vision_config.image_size, 3)
    )
    pixels = pixels.astype(np.float32)
    np.testing.assert_array_equal(
        _reference_images(again, pixels), _reference_images(first, pixels)
    )


# --- folders as released ones are


def test_hub_rows_are_those_of_transformers(hub_folder, examples):
    """Whole chains: the processor of a folder, then its model, on either side."""
    import torch

    processor = transformers.AutoProcessor.from_pretrained(
        str(hub_folder), backend="pil"
    )
    theirs, ours = _reference(hub_folder), pretrained.load_encoders(hub_folder)
    images = [e["image"] for e in examples]
    texts = [*awkward.TEXTS, *(caption(e["name"]) for e in examples)]
    inputs = processor(
        text=texts,
        images=[Image.fromarray(image) for image in images],
        padding="max_length",
        truncation=True,
        max_length=tiny_encoders.TEXT_LENGTH,
        return_tensors="pt",
    )
    with torch.no_grad():
        image_rows = theirs.get_image_features(inputs["pixel_values"]).pooler_output
        text_rows = theirs.get_text_features(inputs["input_ids"]).pooler_output
    _assert_close(ours.embed_images(images), _unit(image_rows))
    _assert_close(ours.embed_texts(texts), _unit(text_rows))


def test_a_tower_without_pooling_head_gives_no_rows_there_either():
    """Why such configs are refused here."""
    import torch

    config = tiny_encoders.make_config("siglip", vision={"vision_use_head": False})
    model = transformers.SiglipModel(config)
    pixels = torch.zeros(1, 3, tiny_encoders.IMAGE_SIZE, tiny_encoders.IMAGE_SIZE)
    assert model.get_image_features(pixel_values=pixels).pooler_output is None
