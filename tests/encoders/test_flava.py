# SPDX-License-Identifier: Apache-2.0
"""FLAVA gives the stored rows of `transformers`, masks padding, and is read in part."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxalign.embedding.stream import embed
from jaxalign.encoders.checkpoint import load_model, save_model
from jaxalign.encoders.families import FAMILIES
from jaxalign.encoders.preprocessing import IMAGE_FILE, ImagePreprocessor
from jaxalign.encoders.pretrained import load_encoders
from tests import tiny_encoders
from tests.encoders import goldens

VARIANTS = ("flava", "flava-for-pretraining")
TEXTS = ["a red apple", "", "a fish", "an emoji of the blue clock"]

# Unit rows of one text in batches and paddings of several sizes: sums over at most 28
# products, normalised.
ROWS = 16 * float(np.finfo(np.float32).eps)


@pytest.fixture
def copy(folders, tmp_path):
    """A folder that a test may change."""
    return tiny_encoders.copy_folder(folders["flava"], tmp_path / "copy")


def _edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# --- rows


def test_padding_is_as_short_as_the_longest_text(loaded, monkeypatch):
    encoders, texts = loaded["flava"], ["a", "a fish", "", "fish"]
    monkeypatch.setattr("jaxalign.encoders.folder_preprocessing.SHORTEST_TEXT", 2)
    short, mask = encoders.tokenize(texts)
    assert short.shape == mask.shape
    assert short.shape[1] < encoders.tokenize(["a red fish " * 9])[0].shape[1]
    monkeypatch.undo()
    whole, all_of_it = encoders.tokenize(texts)
    np.testing.assert_allclose(
        encoders.encode_text(short, mask),
        encoders.encode_text(whole, all_of_it),
        atol=ROWS,
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_equal_the_goldens(variant):
    model, stored = goldens.load(variant)
    features = goldens.features(model, stored)
    for name, rows in features.items():
        goldens.assert_same_rows(rows, stored[name])


def test_every_position_is_seen_but_those_that_the_mask_hides():
    model = tiny_encoders.make_model(tiny_encoders.make_config("flava"))
    ids = tiny_encoders.random_ids(1).repeat(tiny_encoders.TEXT_LENGTH, axis=0)
    changed = ids + np.eye(tiny_encoders.TEXT_LENGTH, dtype=np.int32)
    rows, others = (
        np.asarray(model.text_features(jnp.asarray(i))) for i in (ids, changed)
    )
    assert np.abs(others - rows).max(-1).min() > 1e-3
    mask = jnp.arange(tiny_encoders.TEXT_LENGTH)[None].repeat(len(ids), 0) < 5
    rows, others = (
        np.asarray(model.text_features(jnp.asarray(i), mask)) for i in (ids, changed)
    )
    seen = np.abs(others - rows).max(-1)
    assert seen[:5].min() > 1e-3
    assert seen[5:].max() == 0


def test_only_the_first_segment_is_used():
    model = tiny_encoders.make_model(tiny_encoders.make_config("flava"))
    # As many texts as above: they share what is compiled for each operation.
    ids = jnp.asarray(tiny_encoders.random_ids(tiny_encoders.TEXT_LENGTH))
    table, rows = model.text.types.table, []
    whole = np.asarray(table[...])
    for changed in (None, 1, 0):
        values = whole.copy()
        if changed is not None:
            values[changed, 0] += 1.0
        table[...] = jnp.asarray(values)
        rows.append(np.asarray(model.text_features(ids)))
    np.testing.assert_array_equal(rows[0], rows[1])
    assert np.abs(rows[2] - rows[0]).max() > 1e-3


# --- texts are encoded with their mask


def test_texts_are_embedded_with_their_mask(loaded):
    encoders = loaded["flava"]
    ids, mask = encoders.tokenize(TEXTS)
    assert mask is not None
    assert 0 < mask.sum() < mask.size
    rows = encoders.embed_texts(TEXTS)
    np.testing.assert_allclose(rows, encoders.encode_text(ids, mask), atol=ROWS)
    unmasked = np.asarray(encoders.encode_text(ids))
    assert np.abs(rows - unmasked).max() > 1e-3
    # Padding changes nothing: a text alone, cut after its last token.
    alone = encoders.encode_text(ids[0][mask[0]][None])
    np.testing.assert_allclose(rows[0], alone[0], atol=ROWS)
    batch = {
        "image": np.stack(tiny_encoders.pictures(4)),
        "text": np.array(TEXTS),
        "id": np.array(["a", "b", "c", "d"]),
        "label": np.arange(4),
        "mask": np.ones(4, bool),
    }
    ((streamed,),) = embed(encoders, [batch])
    np.testing.assert_allclose(streamed.text, rows, atol=ROWS)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_other_families_are_used_without_a_mask(family, loaded):
    assert not FAMILIES[family].masks_padding
    assert loaded[family].tokenize(TEXTS)[1] is None


@pytest.mark.parametrize(("own", "length"), [(7, 7), (500, 12), (10**30, 12)])
def test_texts_are_cut_at_the_tokenizers_length_or_at_the_positions(
    copy, loaded, own, length
):
    _edit(copy / "tokenizer_config.json", model_max_length=own)
    changed, whole = load_encoders(copy), loaded["flava"]
    ids, mask = changed.tokenize(["fish " * 50])
    assert ids.shape == mask.shape == (1, length)
    assert ids[0, -1] == 3  # the separator is kept
    # Where texts are cut changes rows, and so the space.
    assert (changed.space == whole.space) == (length == 12)
    # Shorter ones are the same texts.
    found, expected = changed.tokenize(TEXTS[:2]), whole.tokenize(TEXTS[:2])
    for short, long in zip(found, expected, strict=True):
        np.testing.assert_array_equal(short, long[:, :length])
    assert not expected[1][:, length:].any()


def test_a_shorter_tokenizer_leaves_other_families_as_they_are(folders, tmp_path):
    copy = tiny_encoders.copy_folder(folders["siglip"], tmp_path / "copy")
    _edit(copy / "tokenizer_config.json", model_max_length=7)
    assert load_encoders(copy).tokenize(["a"])[0].shape == (1, 12)


def test_settings_that_overrule_the_tokenizers_file_are_of_the_space(copy, loaded):
    _edit(copy / "tokenizer_config.json", do_lower_case=False)
    changed, whole = load_encoders(copy), loaded["flava"]
    texts = ["A RED apple"]
    assert (changed.tokenize(texts)[0] != whole.tokenize(texts)[0]).any()
    assert changed.space != whole.space


def test_a_vocabulary_alone_is_a_tokenizer(copy, loaded):
    whole = loaded["flava"]
    pieces = json.loads((copy / "tokenizer.json").read_text())["model"]["vocab"]
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.txt").write_text("\n".join(sorted(pieces, key=pieces.get)) + "\n")
    np.testing.assert_equal(load_encoders(copy).tokenize(TEXTS), whole.tokenize(TEXTS))


# --- pictures


def test_settings_of_the_first_releases_are_read(copy, folders):
    """The class's first name, sizes as lists, what only training uses switched on."""
    whole = ImagePreprocessor(folders["flava"])
    settings = json.loads((copy / IMAGE_FILE).read_text())
    del settings["image_processor_type"], settings["do_rescale"]
    settings |= {
        "feature_extractor_type": "FlavaFeatureExtractor",
        "size": [12, 12],
        "crop_size": [12, 12],
        "return_codebook_pixels": True,
        "return_image_mask": True,
    }
    (copy / IMAGE_FILE).write_text(json.dumps(settings))
    pictures = tiny_encoders.pictures(2)
    changed = ImagePreprocessor(copy)
    np.testing.assert_array_equal(changed(pictures), whole(pictures))
    assert changed.canonical() == whole.canonical()


# --- checkpoints


def test_both_spellings_of_names_give_the_same_rows(copy, loaded):
    """As `FlavaModel` is saved, and as `FlavaForPreTraining` is."""
    path = copy / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    assert any(name.startswith("flava.") for name in tensors)
    short = {name.removeprefix("flava."): value for name, value in tensors.items()}
    safetensors.numpy.save_file(short, path)
    assert load_encoders(copy).space == loaded["flava"].space


def test_tensors_that_are_not_known_to_be_unused_are_refused(copy):
    names = [
        "flava.flava.logit_scale",
        "flava.image_codebook",
        "flava.image_model.pooled",
        "flava.text_model.embeddings.adapter",
        "logit_scale",
        "mim_heads.bias",
    ]
    path = copy / "model.safetensors"
    more = {name: np.zeros(2, np.float32) for name in names}
    safetensors.numpy.save_file(safetensors.numpy.load_file(path) | more, path)
    listed = "\n  ".join(["extra:", *names])
    with pytest.raises(ValueError, match=f"{listed};"):
        load_model(copy)


def test_names_half_with_the_prefix_are_refused(copy):
    path = copy / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    tensors["logit_scale"] = tensors.pop("flava.logit_scale")
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(ValueError, match="missing:\n  flava.logit_scale") as caught:
        load_model(copy)
    assert "extra:\n  logit_scale" in str(caught.value)


def test_saving_a_part_of_a_checkpoint_is_refused(folders, tmp_path):
    _, state, config = load_model(folders["flava"])
    with pytest.raises(ValueError, match="config=.*got flava"):
        save_model(tmp_path / "out", state, config)
    assert not (tmp_path / "out").exists()
