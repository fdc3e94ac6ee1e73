# SPDX-License-Identifier: Apache-2.0
"""Ready encoders: unit rows, names of spaces, batches, meshes, and clear refusals."""

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

TEXTS = ["a red apple", "", "an emoji of the blue clock", "fish " * 50, "שלום", "😀"]

# Unit rows of two compilations of one program, and of batches of other sizes: sums
# over at most 28 products, normalised.
ROWS = 16 * float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def loaded(folders):
    """Load each family once, so that its programs are compiled once."""
    return {family: load_encoders(folder) for family, folder in folders.items()}


@pytest.fixture(params=tiny_encoders.FAMILIES)
def encoders(request, loaded):
    return loaded[request.param]


def _edit_json(path, **values):
    settings = json.loads(path.read_text())
    settings.update(values)
    path.write_text(json.dumps(settings))


# --- rows


def test_rows_are_unit_rows_on_the_host(encoders):
    images = encoders.embed_images(tiny_encoders.pictures(3))
    texts = encoders.embed_texts(TEXTS)
    for rows, n in ((images, 3), (texts, len(TEXTS))):
        assert isinstance(rows, np.ndarray)
        assert rows.shape == (n, encoders.dim)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=ROWS)


def test_padding_of_the_last_batch_changes_no_row(encoders):
    pictures = tiny_encoders.pictures(5)
    images = encoders.embed_images(pictures, batch_size=4)
    texts = encoders.embed_texts(TEXTS[:5], batch_size=4)
    assert images.shape == texts.shape == (5, encoders.dim)
    for i in range(5):
        one = encoders.embed_images(pictures[i : i + 1], batch_size=4)
        np.testing.assert_allclose(one[0], images[i], atol=ROWS)
        one = encoders.embed_texts(TEXTS[i : i + 1], batch_size=4)
        np.testing.assert_allclose(one[0], texts[i], atol=ROWS)


def test_nothing_gives_no_rows(encoders):
    assert encoders.embed_images([]).shape == (0, encoders.dim)
    assert encoders.embed_texts([]).shape == (0, encoders.dim)
    assert encoders.tokenize([])[0].shape == (0, tiny_encoders.TEXT_LENGTH)


def test_pictures_of_every_mode_and_shape_are_taken(encoders):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (9, 14, 3), dtype=np.uint8)
    picture = Image.fromarray(array)
    modes = [picture.convert(mode) for mode in ("L", "LA", "P", "RGBA", "1", "CMYK")]
    thin = [picture.resize((500, 1)), picture.resize((1, 500))]
    rows = encoders.embed_images([picture, array, *modes, *thin])
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows[0], rows[1])


def test_second_calls_do_not_retrace(encoders, monkeypatch):
    pixels, ids = tiny_encoders.random_pixels(3), tiny_encoders.random_ids(3)
    first = encoders.encode_image(pixels), encoders.encode_text(ids)

    def fail(*arguments):
        raise AssertionError("traced again")

    monkeypatch.setattr("jaxalign.encoders.encoders._unit_rows", fail)
    second = encoders.encode_image(pixels), encoders.encode_text(ids)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    with pytest.raises(AssertionError, match="traced again"):
        encoders.encode_image(tiny_encoders.random_pixels(7))


# --- bfloat16


def test_bfloat16_gives_nearly_the_rows_of_float32_in_the_same_space(folder):
    half, encoders = load_encoders(folder, dtype="bfloat16"), load_encoders(folder)
    assert half.space == encoders.space
    leaves = jax.tree.leaves(half._parameters)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("bfloat16")}
    pictures = tiny_encoders.pictures(5)
    for rows, expected in (
        (half.embed_images(pictures), encoders.embed_images(pictures)),
        (half.embed_texts(TEXTS), encoders.embed_texts(TEXTS)),
    ):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
        # Two blocks a tower: bfloat16 keeps 8 bits, which errors mostly average out.
        assert np.sum(rows * expected, axis=1).min() > 0.999


def test_bfloat16_products_sum_in_float32(folder):
    half = load_encoders(folder, dtype="bfloat16")
    for program, batch in (
        (half._jitted_image_rows, tiny_encoders.random_pixels(2)),
        (half._jitted_text_rows, tiny_encoders.random_ids(2)),
    ):
        text = program.lower(half._parameters, batch).as_text()
        products = re.findall(r"stablehlo.dot_general.*->\s*tensor<\S*x(\w+)>", text)
        assert products
        assert set(products) == {"f32"}


# --- spaces


def test_a_copy_elsewhere_is_the_same_space(folder, tmp_path):
    copy = tiny_encoders.copy_folder(folder, tmp_path / "copy")
    # What changes no row changes no space.
    _edit_json(copy / "config.json", transformers_version="5.99.0")
    _edit_json(copy / "preprocessor_config.json", made_by="someone")
    assert load_encoders(copy).space == load_encoders(folder).space


@pytest.mark.parametrize("family", tiny_encoders.WRITTEN)
def test_saving_and_loading_keeps_the_space(family, folders, tmp_path):
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
    assert spaces[0] != load_encoders(folder).space


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


@pytest.mark.parametrize(
    "change",
    [
        _change_weight,
        _change_mean,
        _change_tokenizer,
        _change_cutting,
        _change_padding,
        _change_activation,
        _change_heads,
    ],
)
def test_whatever_changes_rows_changes_the_space(folder, loaded, tmp_path, change):
    copy = tiny_encoders.copy_folder(folder, tmp_path / "copy")
    change(copy)
    assert load_encoders(copy).space not in {e.space for e in loaded.values()}


def test_names_tell_models_apart(encoders):
    assert encoders.name in repr(encoders)
    assert encoders.space[:12] in repr(encoders)
    assert re.fullmatch("[0-9a-f]{64}", encoders.space)


def test_untrained_encoders_are_controls_of_their_own_space(encoders):
    control, other = (untrained_encoders(encoders, seed=seed) for seed in (0, 1))
    assert len({encoders.space, control.space, other.space}) == 3
    assert control.dim == encoders.dim
    assert "untrained" in control.name
    np.testing.assert_equal(control.tokenize(TEXTS), encoders.tokenize(TEXTS))
    pictures = tiny_encoders.pictures(2)
    np.testing.assert_array_equal(
        control.preprocess_images(pictures), encoders.preprocess_images(pictures)
    )
    pixels = tiny_encoders.random_pixels(3)
    rows = np.asarray(control.encode_image(pixels))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=ROWS)
    assert np.abs(rows - np.asarray(encoders.encode_image(pixels))).max() > 0.01


def test_showing_encoders_reads_no_file(folder, tmp_path):
    copy = tiny_encoders.copy_folder(folder, tmp_path / "copy")
    (copy / "tokenizer.json").write_text("{")
    encoders = load_encoders(copy)
    assert "space" not in repr(encoders)


def test_untrained_encoders_have_the_dtype_of_the_trained(folder):
    half = untrained_encoders(load_encoders(folder, dtype="bfloat16"), seed=0)
    leaves = jax.tree.leaves(half._parameters)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("bfloat16")}


# --- refusals


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    "shape", [(2, 12, 12), (2, 3, 12, 12), (2, 12, 13, 3), (12, 12, 3), (2, 12, 12, 4)]
)
def test_pixels_of_another_shape_are_refused(encoders, shape):
    with pytest.raises(ValueError, match=r"\(n, 12, 12, 3\).*use `embed_images`"):
        encoders.encode_image(np.zeros(shape, np.float32))


@pytest.mark.usefixtures("no_shape_hook")
def test_bytes_are_no_pixels(encoders):
    with pytest.raises(ValueError, match="got uint8; use `embed_images`"):
        encoders.encode_image(np.zeros((2, 12, 12, 3), np.uint8))


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize("shape", [(12,), (2, 13), (2, 3, 4)])
def test_ids_of_another_shape_are_refused(encoders, shape):
    with pytest.raises(ValueError, match="t at most 12 .*use `embed_texts`"):
        encoders.encode_text(np.zeros(shape, np.int32))


@pytest.mark.usefixtures("no_shape_hook")
def test_a_mask_of_another_shape_is_refused(encoders):
    ids = tiny_encoders.random_ids(2)
    with pytest.raises(ValueError, match="pass the mask that came with the ids"):
        encoders.encode_text(ids, np.ones((2, 5), bool))


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("texts", "got"),
    [
        ("a red apple", "one string"),
        (["a", None], "NoneType"),
        (["a", 3], "int"),
        ([b"a"], "bytes"),
        ([["a"]], "list"),
    ],
)
def test_what_is_no_list_of_strings_is_refused(encoders, texts, got):
    with pytest.raises(ValueError, match=f"got {got}.*pass one string for each row"):
        encoders.embed_texts(texts)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("images", "remedy"),
    [
        (np.zeros((9, 9, 3), np.uint8), r"pass \[picture\]"),
        (Image.new("RGB", (9, 9)), r"pass \[picture\]"),
        ("a.png", r"pass \[picture\]"),
        (["a.png"], "open files with PIL"),
        (["http://localhost/a.png"], "open files with PIL"),
        ([np.zeros((9, 9, 3), np.float32)], "scale floats to bytes"),
        ([np.zeros((9, 9), np.uint8)], r"got uint8 \(9, 9\)"),
        ([np.zeros((3, 9, 9), np.uint8)], r"got uint8 \(3, 9, 9\)"),
    ],
)
def test_what_is_no_list_of_pictures_is_refused(encoders, images, remedy):
    with pytest.raises(ValueError, match=remedy):
        encoders.embed_images(images)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_of_nothing_are_refused(encoders, batch_size):
    with pytest.raises(ValueError, match="`batch_size` expected at least 1"):
        encoders.embed_texts(["a"], batch_size=batch_size)
    with pytest.raises(ValueError, match="`batch_size` expected at least 1"):
        encoders.embed_images(tiny_encoders.pictures(1), batch_size=batch_size)
