# SPDX-License-Identifier: Apache-2.0
"""Folders are written and read back whole, and wrong ones are refused clearly."""

import json
import os

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from jaxalign.encoders import checkpoint
from tests import tiny_encoders

WEIGHTS = checkpoint.WEIGHTS_FILE


@pytest.fixture(params=tiny_encoders.FAMILIES)
def config(request):
    return tiny_encoders.make_config(request.param)


@pytest.fixture
def state(config):
    return tiny_encoders.random_parameters(config)[1]


@pytest.fixture
def saved(tmp_path, state, config):
    """A folder of weights and config that a test may spoil."""
    tiny_encoders.save(tmp_path / "saved", state, config)
    return tmp_path / "saved"


@pytest.fixture(params=tiny_encoders.WRITTEN)
def written(request):
    """Config and state of each family that is written too."""
    config = tiny_encoders.make_config(request.param)
    return config, tiny_encoders.random_parameters(config)[1]


def _rewrite(folder, change):
    tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / WEIGHTS)


def _leaves(state):
    return {path: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)}


def test_float32_round_trip_is_exact(saved, state, config):
    graph, loaded, read = checkpoint.load_model(saved)
    expected, found = _leaves(state), _leaves(loaded)
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        assert found[path].dtype == np.float32
        np.testing.assert_array_equal(found[path], value, err_msg=str(path))
    assert read.to_dict() == checkpoint.read_config(saved).to_dict()
    assert read.model_type == config.model_type
    nnx.merge(graph, loaded)


def test_float16_round_trip_rounds_once(tmp_path, written):
    config, state = written
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
    config, state = written
    saved = tmp_path / "saved"
    checkpoint.save_model(saved, state, config)
    _, state, config = checkpoint.load_model(saved)
    checkpoint.save_model(tmp_path / "again", state, config)
    for name in (WEIGHTS, "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_buffers_of_older_versions_are_passed_over(saved, state):
    ids = {"text_model.embeddings.position_ids": np.arange(12)[None]}
    _rewrite(saved, lambda tensors: tensors.update(ids))
    found = _leaves(checkpoint.load_model(saved)[1])
    for path, value in _leaves(state).items():
        np.testing.assert_array_equal(found[path], value)


EXPAND = "vision.stack.blocks.1.mlp.expand.kernel"


def test_missing_extra_and_misshaped_tensors_are_listed_at_once(saved, config):
    scale, bias, expand = (
        tiny_encoders.tensor_name(config, parameter)
        for parameter in ("logit_scale", "text.norm_out.bias", EXPAND)
    )

    def spoil(tensors):
        del tensors[scale], tensors[bias]
        tensors["text_model.head.lora"] = np.zeros((2, 2))
        tensors[expand] = tensors[expand].T.copy()

    _rewrite(saved, spoil)
    with pytest.raises(ValueError, match=r"check config\.json against") as caught:
        checkpoint.load_model(saved)
    message = str(caught.value)
    assert f"missing:\n  {scale}\n  {bias}\n" in message
    assert "extra:\n  text_model.head.lora\n" in message
    assert f"misshaped:\n  {expand}: expected (28, 20), got (20, 28)" in message
    assert str(saved) in message


@pytest.mark.parametrize(
    "damage",
    [lambda t: np.full_like(t, np.nan), lambda t: t.astype(np.int8)],
    ids=["nan", "int8"],
)
def test_tensors_that_are_no_weights_are_refused(saved, config, damage):
    name = tiny_encoders.tensor_name(config, EXPAND)
    _rewrite(saved, lambda tensors: tensors.update({name: damage(tensors[name])}))
    with pytest.raises(ValueError, match=f"not finite floating numbers:\n  {name}"):
        checkpoint.load_model(saved)


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
    with pytest.raises(ValueError, match=r"extra:\n  .*text_model.encoder.layers?.1"):
        checkpoint.load_model(saved)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "open_clip_pytorch_model.bin"])
def test_pickled_weights_are_never_read(saved, name):
    (saved / WEIGHTS).unlink()
    (saved / name).write_bytes(b"\x80\x04N.")
    with pytest.raises(ValueError, match="convert them once: .*save_pretrained"):
        checkpoint.load_model(saved)


def test_safetensors_are_preferred_to_pickled_weights(saved):
    (saved / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    checkpoint.load_model(saved)


def test_a_folder_without_weights_is_refused(saved):
    (saved / WEIGHTS).unlink()
    with pytest.raises(ValueError, match="pass a complete checkpoint folder"):
        checkpoint.load_model(saved)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:5],
        lambda content: b"",
        lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        lambda content: b"\x08\0\0\0\0\0\0\0" + b'{"a":1} ' + content,
    ],
    ids=["half", "one short", "no header", "empty", "git-lfs pointer", "bad header"],
)
def test_damaged_weights_are_refused(saved, damage):
    path = saved / WEIGHTS
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="download or write it again"):
        checkpoint.load_model(saved)


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (b'{"model_type": "clip"', "download the checkpoint again"),
        (b"\xff\xfe\x00", "download the checkpoint again"),
        (b"", "download the checkpoint again"),
        (b"[]", "expected a JSON object .* download"),
        (b"null", "expected a JSON object .* download"),
        (b"{}", r"model_type among \['clip', 'flava', 'siglip'\], got 'nothing'"),
        (
            b'{"model_type": "bert"}',
            r"model_type among \['clip', 'flava', 'siglip'\], got 'ber",
        ),
        (b'{"model_type": ["clip"]}', r"model_type among .* got .*'clip'"),
        (b'{"model_type": "clip", "text_config": 3}', "transformers refuses"),
        (
            b'{"model_type": "siglip", "vision_config": {"hidden_size": "x"}}',
            "transformers refuses",
        ),
    ],
)
def test_damaged_configs_are_refused(tmp_path, content, remedy):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=remedy):
        checkpoint.load_model(tmp_path)


def test_a_folder_without_config_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="pass the folder that `save_pretrained`"):
            checkpoint.load_model(folder)


def test_a_state_of_another_model_is_refused(tmp_path, state):
    config = tiny_encoders.make_config("clip", text=dict(num_hidden_layers=3))
    with pytest.raises(ValueError, match="a model built from this config"):
        checkpoint.save_model(tmp_path / "out", state, config)
    assert not (tmp_path / "out").exists()


def test_a_table_that_misses_a_parameter_is_refused(config, state):
    table = checkpoint.find_family(config.model_type).rules(config)[1:]
    with pytest.raises(ValueError, match="logit_scale.*; mend the family's table"):
        checkpoint.place_tensors({}, table, state)


def test_a_failing_write_leaves_the_old_folder_whole(tmp_path, written, monkeypatch):
    config, state = written
    saved = tmp_path / "saved"
    checkpoint.save_model(saved, state, config)
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    other = tiny_encoders.random_parameters(config, seed=1)[1]

    def fail(*paths):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    for folder in (saved, saved.parent / "new"):
        with pytest.raises(OSError, match="no space left"):
            checkpoint.save_model(folder, other, config)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert list((saved.parent / "new").iterdir()) == []


def test_a_write_cut_off_between_its_files_is_no_checkpoint(
    tmp_path, written, monkeypatch
):
    config, state = written
    replace, done = os.replace, []

    def once(*paths):
        if done:
            raise OSError("killed")
        done.append(paths)
        replace(*paths)

    monkeypatch.setattr(os, "replace", once)
    with pytest.raises(OSError, match="killed"):
        checkpoint.save_model(tmp_path, state, config)
    with pytest.raises(ValueError, match="expected a checkpoint folder"):
        checkpoint.load_model(tmp_path)


def test_abstract_models_compute_nothing(config):
    family = checkpoint.find_family(config.model_type)
    _, state = checkpoint.abstract_model(family, config)
    leaves = jax.tree.leaves(state)
    assert leaves
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
