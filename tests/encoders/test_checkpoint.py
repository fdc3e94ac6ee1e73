# SPDX-License-Identifier: Apache-2.0
"""Folders are written and read back whole, and wrong ones are refused clearly."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from jaxalign.encoders import checkpoint
from tests import tiny_encoders

WEIGHTS = checkpoint.WEIGHTS_FILE


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Config, state and folder of a model of each family, of two blocks a tower."""
    root, made = tmp_path_factory.mktemp("models"), {}
    for family in tiny_encoders.FAMILIES:
        config = tiny_encoders.make_config(family)
        state = tiny_encoders.random_parameters(config)[1]
        tiny_encoders.save(root / family, state, config)
        made[family] = config, state, root / family
    return made


@pytest.fixture(params=tiny_encoders.FAMILIES)
def model(request, models):
    """Each family's in turn."""
    return models[request.param]


@pytest.fixture(params=tiny_encoders.WRITTEN)
def written(request, models):
    """Each that is written too."""
    return models[request.param]


@pytest.fixture
def saved(models, tmp_path):
    """A folder that a test may spoil, where no family differs from another."""
    return tiny_encoders.copy_folder(models["clip"][-1], tmp_path / "saved")


def _rewrite(folder, change):
    tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / WEIGHTS)


def _leaves(state):
    return {path: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)}


def test_float32_round_trip_is_exact(model):
    config, state, folder = model
    graph, loaded, read = checkpoint.load_model(folder)
    expected, found = _leaves(state), _leaves(loaded)
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        assert found[path].dtype == np.float32
        np.testing.assert_array_equal(found[path], value, err_msg=str(path))
    assert read.to_dict() == checkpoint.read_config(folder).to_dict()
    assert read.model_type == config.model_type
    nnx.merge(graph, loaded)


def test_float16_round_trip_rounds_once(tmp_path, written):
    config, state, _ = written
    checkpoint.save_model(tmp_path, state, config, dtype="float16")
    stored = safetensors.numpy.load_file(tmp_path / WEIGHTS)
    assert {tensor.dtype for tensor in stored.values()} == {np.dtype("float16")}
    # So that every reader computes in float32, whatever the file's dtype.
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"
    found = _leaves(checkpoint.load_model(tmp_path)[1])
    for path, value in _leaves(state).items():
        assert found[path].dtype == np.float32
        rounded = value.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(found[path], rounded, err_msg=str(path))


def test_saving_what_was_loaded_writes_the_same_bytes(tmp_path, written):
    saved = written[-1]
    _, state, config = checkpoint.load_model(saved)
    checkpoint.save_model(tmp_path, state, config)
    for name in (WEIGHTS, "config.json"):
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes()


def test_buffers_of_older_versions_are_passed_over(saved, models):
    ids = {"text_model.embeddings.position_ids": np.arange(12)[None]}
    _rewrite(saved, lambda tensors: tensors.update(ids))
    found = _leaves(checkpoint.load_model(saved)[1])
    for path, value in _leaves(models["clip"][1]).items():
        np.testing.assert_array_equal(found[path], value)


EXPAND = "vision.stack.blocks.1.mlp.expand.kernel"


def test_missing_extra_and_misshaped_tensors_are_listed_at_once(model, tmp_path):
    config, _, folder = model
    saved = tiny_encoders.copy_folder(folder, tmp_path / "saved")
    scale, bias, expand = (
        tiny_encoders.tensor_name(config, parameter)
        for parameter in ("logit_scale", "text.norm_out.bias", EXPAND)
    )

    def spoil(tensors):
        del tensors[scale], tensors[bias]
        tensors["text_model.head.lora"] = np.zeros((2, 2))
        tensors[expand] = tensors[expand].T.copy()

    _rewrite(saved, spoil)
    with pytest.raises(ValueError, match=r"config\.json") as caught:
        checkpoint.load_model(saved)
    message = str(caught.value)
    assert f"missing:\n  {scale}\n  {bias}\n" in message
    assert "extra:\n  text_model.head.lora\n" in message
    assert f"misshaped:\n  {expand}: expected (28, 20), got (20, 28)" in message
    assert str(saved) in message


def test_tensors_that_are_no_weights_are_named(saved, models):
    names = [
        tiny_encoders.tensor_name(models["clip"][0], parameter)
        for parameter in ("logit_scale", EXPAND)
    ]

    def spoil(tensors):
        tensors[names[0]] = np.full_like(tensors[names[0]], np.nan)
        tensors[names[1]] = tensors[names[1]].astype(np.int8)

    _rewrite(saved, spoil)
    with pytest.raises(ValueError, match=r"config\.json") as caught:
        checkpoint.load_model(saved)
    assert all(f"\n  {name}" in str(caught.value) for name in names)


def test_long_lists_of_tensors_are_cut(saved):
    more = {f"extra.{i}": np.zeros(1) for i in range(30)}
    _rewrite(saved, lambda tensors: tensors.update(more))
    with pytest.raises(ValueError, match="and 22 more") as caught:
        checkpoint.load_model(saved)
    assert len(str(caught.value).splitlines()) < 15


def test_a_config_of_another_depth_is_refused(saved):
    path = saved / "config.json"
    values = json.loads(path.read_text())
    values["text_config"]["num_hidden_layers"] = 1
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"extra:\n  .*text_model.encoder.layers.1"):
        checkpoint.load_model(saved)


def test_pickled_weights_are_passed_over_and_never_read(saved):
    names = ("pytorch_model.bin", "open_clip_pytorch_model.bin")
    for name in names:
        (saved / name).write_bytes(b"\x80\x04N.")
    checkpoint.load_model(saved)
    (saved / WEIGHTS).unlink()
    for name in names:
        with pytest.raises(ValueError, match=f"name=.*{name}"):
            checkpoint.load_model(saved)
        (saved / name).unlink()


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (b'{"model_type": "clip"', "config.json"),
        (b"\xff\xfe\x00", "config.json"),
        (b"", "config.json"),
        (b"[]", "config.json.*list"),
        (b"null", "config.json.*NoneType"),
        (b"{}", r"model_type='nothing'.*\('clip', 'flava', 'siglip'\)"),
        (b'{"model_type": "bert"}', "model_type='bert'"),
        (b'{"model_type": ["clip"]}', "model_type=.*'clip'"),
        (b'{"model_type": "clip", "text_config": 3}', "clip config in .*config.json"),
        (
            b'{"model_type": "siglip", "vision_config": {"hidden_size": "x"}}',
            "siglip config in .*config.json",
        ),
    ],
    ids=["cut", "no UTF-8", "empty", "list", "null", "no family", "other family"]
    + ["families", "no tower", "no size"],
)
def test_damaged_configs_are_refused(tmp_path, content, remedy):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=remedy):
        checkpoint.load_model(tmp_path)


def test_a_folder_without_config_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="name=.*config.json"):
            checkpoint.load_model(folder)


def test_a_state_of_another_model_is_refused(tmp_path, models):
    config = tiny_encoders.make_config("clip", text=dict(num_hidden_layers=3))
    with pytest.raises(ValueError, match="state=.*config="):
        checkpoint.save_model(tmp_path / "out", models["clip"][1], config)
    assert not (tmp_path / "out").exists()


def test_a_table_that_misses_a_parameter_is_refused(model):
    config, state, _ = model
    table = checkpoint.find_family(config.model_type).rules(config)[1:]
    with pytest.raises(ValueError, match="rules=.*logit_scale"):
        checkpoint.place_tensors({}, table, state)


def test_a_failing_write_leaves_the_old_folder_whole(saved, models, monkeypatch):
    config, state, _ = models["clip"]
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    other = jax.tree.map(jnp.zeros_like, state)

    def fail(*paths):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    for folder in (saved, saved.parent / "new"):
        with pytest.raises(OSError, match="no space left"):
            checkpoint.save_model(folder, other, config)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert list((saved.parent / "new").iterdir()) == []


def test_a_write_cut_off_between_its_files_is_no_checkpoint(
    tmp_path, models, monkeypatch
):
    config, state, _ = models["clip"]
    replace, done = os.replace, []

    def once(*paths):
        if done:
            raise OSError("killed")
        done.append(paths)
        replace(*paths)

    monkeypatch.setattr(os, "replace", once)
    with pytest.raises(OSError, match="killed"):
        checkpoint.save_model(tmp_path, state, config)
    with pytest.raises(ValueError, match="name=.*config.json"):
        checkpoint.load_model(tmp_path)


def test_abstract_models_compute_nothing(model):
    config = model[0]
    family = checkpoint.find_family(config.model_type)
    graph, state = checkpoint.abstract_model(family, config)
    leaves = jax.tree.leaves(state)
    assert leaves
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    # The graph is that of a model which was drawn.
    drawn = nnx.eval_shape(lambda: family.build(config, rngs=nnx.Rngs(0)))
    assert nnx.split(drawn) == (graph, state)
