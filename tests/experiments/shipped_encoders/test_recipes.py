# SPDX-License-Identifier: Apache-2.0
"""The two shipped pairs are independent: they share no rendering, seed or tokenizer."""

import numpy as np
import pytest
import safetensors.numpy
from transformers import AutoTokenizer

from experiments import train_encoders
from experiments.shipped_encoders.model_card import describe_training
from experiments.shipped_encoders.recipes import RECIPES, TEXT_LENGTH
from jaxalign.data import catalog
from jaxalign.encoders import hub, pretrained
from jaxalign.encoders.checkpoint import read_config
from jaxalign.encoders.families import find_family
from tests import tiny_encoders
from tests.few_emoji import few_emoji

SOURCE, TARGET = RECIPES["openmoji-clip"], RECIPES["openmoji-siglip"]


@pytest.fixture(scope="module")
def renderings(tmp_path_factory):
    """What each recipe's split shows, in the tiny data set, of a few emoji."""
    root, patch = tmp_path_factory.mktemp("datasets"), few_emoji()
    sources = [
        catalog.load_dataset("openmoji/tiny", recipe.split, data_dir=root)
        for recipe in (SOURCE, TARGET)
    ]
    patch.undo()
    return [[source[i] for i in range(len(source))] for source in sources]


def test_every_recipe_is_shipped_and_every_shipped_pair_has_one():
    assert {f"jaxalign/{name}" for name in RECIPES} == set(hub.SHIPPED)
    assert all(recipe.name == name for name, recipe in RECIPES.items())


def test_no_rendering_is_shared_but_every_emoji_is(renderings):
    source, target = renderings
    assert SOURCE.split != TARGET.split
    for key in ("id", "rendering"):
        assert {e[key] for e in source} & {e[key] for e in target} == set(), key
    assert {e["emoji"] for e in source} == {e["emoji"] for e in target}
    pictures = [{e["image"].tobytes() for e in side} for side in renderings]
    assert pictures[0] & pictures[1] == set()


def test_seed_loss_and_tokenizer_differ():
    for name in ("seed", "vocabulary_size", "train_tokenizer"):
        assert getattr(SOURCE, name) != getattr(TARGET, name), name
    assert SOURCE.training.loss != TARGET.training.loss


def test_tokenizers_differ_in_kind_and_cut_alike():
    source, target = (r.tokenizer(tiny_encoders.CORPUS) for r in (SOURCE, TARGET))
    kinds = [t.backend_tokenizer.model.__class__.__name__ for t in (source, target)]
    assert kinds == ["BPE", "Unigram"]
    text = "a red apple"
    assert source(text)["input_ids"] != target(text)["input_ids"]
    assert source.model_max_length == target.model_max_length == TEXT_LENGTH


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_configs_fit_their_tokenizer_processor_and_training(recipe):
    config = recipe.make_config(1234)
    assert config.text_config.vocab_size == 1234
    assert config.text_config.max_position_embeddings == TEXT_LENGTH
    assert config.text_config.eos_token_id == 1  # 2 would pool at the largest id
    assert config.text_config.pad_token_id == 0
    size = config.vision_config.image_size
    assert size % config.vision_config.patch_size == 0
    assert find_family(config.model_type).config is type(config)
    processor = recipe.make_processor()
    pixels = processor(tiny_encoders.pictures(1), return_tensors="np")["pixel_values"]
    assert pixels.shape == (1, 3, size, size)
    # Training normalises by itself; pictures must come out the same.
    assert tuple(processor.image_mean) == recipe.training.image_mean
    assert tuple(processor.image_std) == recipe.training.image_std


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_training_sees_the_pixels_that_the_processor_gives(recipe):
    """The pictures are square: training resizes them, and knows no crop."""
    processor = recipe.make_processor()
    size = recipe.make_config(64).vision_config.image_size
    mean, std = (
        np.array(values, np.float32)
        for values in (recipe.training.image_mean, recipe.training.image_std)
    )
    for side in (size, 72, 31, 200):
        (picture,) = tiny_encoders.pictures(1, size=side)
        image = train_encoders.ResizeImage(size).map({"image": picture})["image"]
        pixels = (image.astype(np.float32) / 255 - mean) / std
        found = processor(picture, return_tensors="np")["pixel_values"][0]
        # A quotient by 255 against a product with its inverse.
        bound = 8 * float(np.finfo(np.float32).eps)
        np.testing.assert_allclose(found.transpose(1, 2, 0), pixels, rtol=0, atol=bound)


def test_shipped_folders_follow_their_recipes():
    vocabularies, spaces = [], []
    for name in hub.SHIPPED:
        encoders = pretrained.load_encoders(name)
        recipe = RECIPES[name.removeprefix("jaxalign/")]
        folder = hub.find_folder(name)
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        expected = recipe.make_config(len(tokenizer))
        config = read_config(folder)
        for tower in ("text_config", "vision_config"):
            found = getattr(config, tower).to_dict()
            assert (
                found.items()
                >= {
                    key: value
                    for key, value in getattr(expected, tower).to_dict().items()
                    if key not in ("dtype", "transformers_version")
                }.items()
            )
        weights = folder / "model.safetensors"
        assert weights.stat().st_size < 8 * 2**20
        assert encoders.dim == 128
        tensors = safetensors.numpy.load_file(weights)
        assert {tensor.dtype for tensor in tensors.values()} == {np.dtype("float16")}
        scale = np.exp(tensors["logit_scale"].astype(np.float64)).item()
        # The logarithm is stored with 11 bits.
        assert scale <= recipe.training.max_logit_scale * (1 + 2**-10)
        card = (folder / "README.md").read_text()
        assert describe_training(recipe.training) in card
        assert f"seed {recipe.seed}." in card
        assert f"split `{recipe.split}`" in card
        vocabularies.append(tokenizer.get_vocab())
        spaces.append(encoders.space)
    assert spaces[0] != spaces[1]
    assert vocabularies[0] != vocabularies[1]
    ids = [
        pretrained.load_encoders(name).tokenize(["a red apple"])[0].tolist()
        for name in hub.SHIPPED
    ]
    assert ids[0] != ids[1]
