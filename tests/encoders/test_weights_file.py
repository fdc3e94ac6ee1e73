# SPDX-License-Identifier: Apache-2.0
"""Weights are mapped, from one file or several, and damage is told apart."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxalign.encoders.weights_file import read_tensors

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(4, dtype=np.float16),
    "c": np.full((2, 2), 3, jnp.bfloat16),
    "scalar": np.array(2.5),
    "none": np.zeros((0, 3), np.float32),
    "ids": np.arange(3),
}


def write_shards(folder):
    """Write the tensors in two files and an index, as transformers does."""
    halves = {"model-00001-of-00002.safetensors": ["a", "b", "ids"]}
    halves["model-00002-of-00002.safetensors"] = ["c", "scalar", "none"]
    for file, names in halves.items():
        save_file({name: TENSORS[name] for name in names}, folder / file)
    places = {name: file for file, names in halves.items() for name in names}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


def assert_same(found):
    assert set(found) == set(TENSORS)
    for name, expected in TENSORS.items():
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


def test_one_file_is_mapped_not_read(tmp_path):
    save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = read_tensors(tmp_path)
    assert_same(found)
    assert not found["a"].flags.writeable
    assert not found["a"].flags.owndata


def test_several_files_are_one_checkpoint(tmp_path):
    write_shards(tmp_path)
    assert_same(read_tensors(tmp_path))


def test_the_index_says_which_of_two_copies_counts(tmp_path):
    write_shards(tmp_path)
    second = tmp_path / "model-00002-of-00002.safetensors"
    stale = {name: TENSORS[name] for name in ("c", "scalar", "none")}
    save_file({**stale, "a": -TENSORS["a"]}, second)
    assert_same(read_tensors(tmp_path))


def test_a_file_of_another_name(tmp_path):
    save_file(TENSORS, tmp_path / "open_clip_model.safetensors")
    assert_same(read_tensors(tmp_path, "open_clip_model.safetensors"))


@pytest.mark.usefixtures("no_shape_hook")
class TestErrors:
    def test_a_shard_that_is_missing(self, tmp_path):
        write_shards(tmp_path)
        (tmp_path / "model-00002-of-00002.safetensors").unlink()
        with pytest.raises(ValueError, match="name=.*00002-of-00002"):
            read_tensors(tmp_path)

    def test_a_tensor_that_its_shard_lacks(self, tmp_path):
        index = write_shards(tmp_path)
        values = json.loads(index.read_text())
        values["weight_map"]["lost"] = "model-00001-of-00002.safetensors"
        index.write_text(json.dumps(values))
        with pytest.raises(ValueError, match="name=.*lost"):
            read_tensors(tmp_path)

    def test_a_damaged_index(self, tmp_path):
        for content in (
            "{",
            "[]",
            "{}",
            '{"weight_map": {}}',
            '{"weight_map": {"a": "../a"}}',
            '{"weight_map": {"a": 3}}',
        ):
            (tmp_path / "model.safetensors.index.json").write_text(content)
            with pytest.raises(ValueError, match="weight_map"):
                read_tensors(tmp_path)

    def test_a_damaged_file(self, tmp_path):
        path = tmp_path / "model.safetensors"
        save_file(TENSORS, path)
        content = path.read_bytes()
        for damaged in (
            *(content[:cut] for cut in (0, 4, 100, -1)),
            b"\x08\0\0\0\0\0\0\0" + b'{"a":1} ' + content,
        ):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match="damaged.*model.safetensors"):
                read_tensors(tmp_path)

    def test_a_folder_of_pickles(self, tmp_path):
        (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
        with pytest.raises(ValueError, match="name=.*pytorch_model.bin"):
            read_tensors(tmp_path)

    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(ValueError, match="name=.*model.safetensors"):
            read_tensors(tmp_path)
