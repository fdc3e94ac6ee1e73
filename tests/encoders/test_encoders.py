# SPDX-License-Identifier: Apache-2.0
"""Ready encoders: unit rows, names of spaces, batches, meshes, and clear errors."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from jaxalign.encoders.checkpoint import load_model, save_model
from jaxalign.encoders.pretrained import load_encoders, untrained_encoders
from tests import tiny_encoders

PICTURES = tiny_encoders.pictures(5)
TEXTS = ["a red apple", "", "fish " * 50, "שלום", "😀"]
BATCH = 4

# Unit rows of two compilations of one program, and of batches of other neighbours:
# sums over at most 28 products, normalised.
ROWS = 16 * float(np.finfo(np.float32).eps)


def _edit_json(path, **values):
    settings = json.loads(path.read_text())
    settings.update(values)
    path.write_text(json.dumps(settings))


# --- rows


def test_rows_are_unit_rows_on_the_host_whatever_fills_their_batch(encoders):
    for embed, items in (
        (encoders.embed_images, PICTURES),
        (encoders.embed_texts, TEXTS),
    ):
        rows = embed(items, batch_size=BATCH)
        assert isinstance(rows, np.ndarray)
        assert rows.shape == (5, encoders.dim)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=ROWS)
        # The row that copies of itself filled up is now among others, and the reverse.
        turned = embed(items[::-1], batch_size=BATCH)
        np.testing.assert_allclose(turned[::-1], rows, atol=ROWS)
        assert np.abs(rows[1:] - rows[:1]).max(axis=1).min() > 1e-3


def test_nothing_gives_no_rows(encoders):
    assert encoders.embed_images([]).shape == (0, encoders.dim)
    assert encoders.embed_texts([]).shape == (0, encoders.dim)
    assert encoders.tokenize([])[0].shape == (0, tiny_encoders.TEXT_LENGTH)


def test_second_calls_do_not_retrace(encoders, monkeypatch):
    pixels, ids = tiny_encoders.random_pixels(BATCH), tiny_encoders.random_ids(BATCH)
    first = encoders.encode_image(pixels), encoders.encode_text(ids)

    def fail(*arguments):
        raise AssertionError("traced again")

    monkeypatch.setattr("jaxalign.encoders.encoders.unit_rows", fail)
    second = encoders.encode_image(pixels), encoders.encode_text(ids)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    with pytest.raises(AssertionError, match="traced again"):
        encoders.encode_image(tiny_encoders.random_pixels(7))


# --- bfloat16


@pytest.mark.parametrize("family", tiny_encoders.FAMILIES)
def test_bfloat16_gives_nearly_the_rows_of_float32_in_the_same_space(
    folders, loaded, family
):
    half, encoders = load_encoders(folders[family], dtype="bfloat16"), loaded[family]
    assert half.space == encoders.space
    leaves = jax.tree.leaves(half._parameters)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("bfloat16")}
    for rows, expected in (
        (half.embed_images(PICTURES[:4]), encoders.embed_images(PICTURES[:4])),
        (half.embed_texts(TEXTS[:4]), encoders.embed_texts(TEXTS[:4])),
    ):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=ROWS)
        # bfloat16 keeps 8 bits: two roundings of each activation, relative 2**-8,
        # which mostly average out over the columns.
        assert np.sum(rows * expected, axis=1).min() > 0.999
    # Products sum in float32.
    for program, batch in (
        (half._jitted_image_rows, tiny_encoders.random_pixels(BATCH)),
        (half._jitted_text_rows, tiny_encoders.random_ids(BATCH)),
    ):
        text = program.lower(half._parameters, batch).as_text()
        products = re.findall(r"stablehlo.dot_general.*->\s*tensor<\S*x(\w+)>", text)
        assert products
        assert set(products) == {"f32"}


# --- spaces


def test_a_copy_elsewhere_is_the_same_space(loaded, folders, tmp_path):
    for family, folder in folders.items():
        copy = tiny_encoders.copy_folder(folder, tmp_path / family)
        # What changes no row changes no space.
        _edit_json(copy / "config.json", transformers_version="5.99.0")
        _edit_json(copy / "preprocessor_config.json", made_by="someone")
        assert load_encoders(copy).space == loaded[family].space


@pytest.mark.parametrize("family", tiny_encoders.WRITTEN)
def test_saving_and_loading_keeps_the_space(family, folders, loaded, tmp_path):
    folder = folders[family]
    _, state, config = load_model(folder)
    spaces = []
    for name, dtype in (("a", "float16"), ("b", "float16"), ("c", "float32")):
        copy = tiny_encoders.copy_folder(folder, tmp_path / name)
        save_model(copy, state, config, dtype=dtype)
        spaces.append(load_encoders(copy).space)
        _, state, config = load_model(copy)
    assert spaces[0] == spaces[1] == spaces[2]
    # Rounding to float16 once made another space than the first.
    assert spaces[0] != loaded[family].space


def _change_weight(folder):
    path = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    config = load_model(folder)[2]
    bias = tensors[tiny_encoders.tensor_name(config, "text.norm_out.bias")]
    bias[3] = np.nextafter(bias[3], np.float32(np.inf))
    safetensors.numpy.save_file(tensors, path)


def _change_mean(folder):
    _edit_json(folder / "preprocessor_config.json", image_mean=[0.5, 0.5, 0.51])


def _change_tokenizer(folder):
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    values["normalizer"] = {"type": "NFKC"}
    path.write_text(json.dumps(values))


def _change_cutting(folder):
    _edit_json(folder / "tokenizer_config.json", truncation_side="left")


def _change_padding(folder):
    _edit_json(folder / "tokenizer_config.json", padding_side="left")


def _change_activation(folder):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values[tiny_encoders.image_key(load_model(folder)[2])]["hidden_act"] = "relu"
    path.write_text(json.dumps(values))


def _change_heads(folder):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values["text_config"]["num_attention_heads"] = 1
    path.write_text(json.dumps(values))


CHANGES = [
    _change_weight,
    _change_mean,
    _change_tokenizer,
    _change_cutting,
    _change_padding,
    _change_activation,
    _change_heads,
]


@pytest.mark.parametrize(
    ("family", "change"),
    [
        *(("clip", change) for change in CHANGES),
        # Settings that these families name or read in ways of their own.
        ("siglip", _change_mean),
        ("siglip", _change_tokenizer),
        ("flava", _change_mean),
        ("flava", _change_padding),
        ("flava", _change_activation),
    ],
)
def test_whatever_changes_rows_changes_the_space(
    family, change, folders, loaded, tmp_path
):
    copy = tiny_encoders.copy_folder(folders[family], tmp_path / "copy")
    change(copy)
    assert load_encoders(copy).space not in {e.space for e in loaded.values()}


def test_names_tell_models_apart(encoders):
    assert re.fullmatch("[0-9a-f]{64}", encoders.space)
    assert encoders.name in repr(encoders)
    assert encoders.space[:12] in repr(encoders)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_untrained_encoders_are_controls_of_their_own_space(folders, loaded, dtype):
    encoders = loaded["clip"]
    like = load_encoders(folders["clip"], dtype=dtype)
    control, other = (untrained_encoders(like, seed=seed) for seed in (0, 1))
    assert len({encoders.space, control.space, other.space}) == 3
    assert control.dim == encoders.dim
    assert control.dtype == dtype
    assert "untrained" in control.name
    np.testing.assert_equal(control.tokenize(TEXTS), encoders.tokenize(TEXTS))
    np.testing.assert_array_equal(
        control.preprocess_images(PICTURES), encoders.preprocess_images(PICTURES)
    )
    pixels = tiny_encoders.random_pixels(BATCH)
    rows = np.asarray(control.encode_image(pixels))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=ROWS)
    assert np.abs(rows - np.asarray(encoders.encode_image(pixels))).max() > 0.01


def test_showing_encoders_reads_no_file(folders, tmp_path):
    copy = tiny_encoders.copy_folder(folders["clip"], tmp_path / "copy")
    (copy / "tokenizer.json").write_text("{")
    encoders = load_encoders(copy)
    assert "space" not in repr(encoders)


# --- errors

PIXELS = tiny_encoders.random_pixels(2)
IDS = tiny_encoders.random_ids(2)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("pixels", "got"),
    [
        (np.zeros(shape, np.float32), re.escape(str(shape)))
        for shape in ((2, 12, 12), (2, 3, 12, 12), (2, 12, 13, 3), (2, 12, 12, 4))
    ]
    + [
        (np.zeros((2, 12, 12, 3), np.uint8), "uint8"),
        (PIXELS.astype(np.complex64), "complex64"),
        (PIXELS.astype(object), "object"),
        (np.ma.masked_array(PIXELS), "MaskedArray"),
        (PIXELS.tolist(), "list"),
    ],
    ids=["no channels", "planes", "oblong", "alpha"]
    + ["uint8", "complex", "object", "masked", "list"],
)
def test_encode_image_names_wrong_pixels(loaded, pixels, got):
    with pytest.raises(ValueError, match=f"pixels=.*got {got}.*`embed_images`"):
        loaded["clip"].encode_image(pixels)


@pytest.mark.usefixtures("no_shape_hook")
def test_dtypes_that_jax_lacks_are_converted(loaded):
    encoders = loaded["clip"]
    pixels, ids = tiny_encoders.random_pixels(BATCH), tiny_encoders.random_ids(BATCH)
    expected = encoders.encode_image(pixels)
    for dtype in (">f4", np.longdouble):
        rows = encoders.encode_image(pixels.astype(dtype))
        np.testing.assert_array_equal(rows, expected)
    rows = encoders.encode_text(ids.astype(">i4"))
    np.testing.assert_array_equal(rows, encoders.encode_text(ids))


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("ids", "got"),
    [
        (np.zeros((12,), np.int32), re.escape("(12,)")),
        (np.zeros((2, 13), np.int32), re.escape("(2, 13)")),
        (np.zeros((2, 0), np.int32), re.escape("(2, 0)")),
        (IDS.astype(np.float32), "float32"),
        (IDS.astype(bool), "bool"),
        (IDS.astype(str), "<U11"),
        (IDS.tolist(), "list"),
    ],
    ids=["one text", "long", "empty", "float", "bool", "strings", "list"],
)
def test_encode_text_names_wrong_ids(loaded, ids, got):
    with pytest.raises(ValueError, match=f"ids=.*got {got}.*`embed_texts`"):
        loaded["clip"].encode_text(ids)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("mask", "got"),
    [
        (np.ones((2, 5), bool), re.escape("(2, 5)")),
        (np.ones(IDS.shape, np.int64), "int64"),
        (np.ones(IDS.shape, np.float32), "float32"),
        (np.ones(IDS.shape, bool).tolist(), "list"),
    ],
    ids=["shape", "int", "float", "list"],
)
def test_encode_text_names_wrong_masks(loaded, mask, got):
    with pytest.raises(ValueError, match=f"mask=.*got {got}"):
        loaded["clip"].encode_text(IDS, mask)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("texts", "got"),
    [
        ("a red apple", "one string"),
        (np.array("a red apple"), "ndarray"),
        (["a", None], "NoneType"),
        ([b"a"], "bytes"),
        ([["a"]], "list"),
        (iter(["a"]), "list_iterator"),
        (["a fish", "a red \udcff apple"], "half a character"),
    ],
    ids=["string", "0-d", "None", "bytes", "nested", "iterator", "surrogate"],
)
def test_embed_texts_names_what_is_no_list_of_strings(loaded, texts, got):
    with pytest.raises(ValueError, match=f"texts=.*got {got}"):
        loaded["clip"].embed_texts(texts)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("images", "got"),
    [
        (np.zeros((2, 9, 9, 3), np.uint8), "one ndarray"),
        (Image.new("RGB", (9, 9)), "one Image"),
        ("a.png", "one str"),
        (iter(PICTURES), "list_iterator"),
        (["a.png"], "'a.png'"),
        ([np.zeros((9, 9, 3), np.float32)], r"float32 \(9, 9, 3\)"),
        ([np.zeros((9, 9, 3), np.int64)], r"int64 \(9, 9, 3\)"),
        ([np.zeros((9, 9, 3), bool)], r"bool \(9, 9, 3\)"),
        ([np.zeros((9, 9), np.uint8)], r"uint8 \(9, 9\)"),
        ([np.zeros((3, 9, 9), np.uint8)], r"uint8 \(3, 9, 9\)"),
        ([np.zeros((9, 9, 4), np.uint8)], r"uint8 \(9, 9, 4\)"),
        ([np.zeros((0, 9, 3), np.uint8)], r"uint8 \(0, 9, 3\)"),
        ([PICTURES[0].tolist()], r"\[\[\["),
    ],
    ids=["stack", "picture", "path", "iterator", "paths", "float", "int", "bool"]
    + ["gray", "planes", "alpha", "empty", "nested"],
)
def test_embed_images_names_what_is_no_list_of_pictures(
    loaded, images, got, monkeypatch
):
    # Before the first batch, however late the wrong one comes.
    monkeypatch.setattr("jaxalign.encoders.encoders.Encoders.encode_image", None)
    if isinstance(images, list):
        images = [*PICTURES, *images]
    with pytest.raises(ValueError, match=f"images=.*got {got}"):
        loaded["clip"].embed_images(images, batch_size=BATCH)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "4", None])
def test_batch_sizes_are_whole_numbers_of_at_least_one(loaded, batch_size):
    for embed, items in (
        (loaded["clip"].embed_texts, TEXTS),
        (loaded["clip"].embed_images, PICTURES),
    ):
        with pytest.raises(ValueError, match="batch_size"):
            embed(items, batch_size=batch_size)
