# SPDX-License-Identifier: Apache-2.0
"""Fingerprints as they are and as they were, and files that hold the older ones."""

import json
import shutil

import numpy as np
import pytest
from transformers import AutoTokenizer

import jaxalign as ja
from jaxalign.anchors.stores import match_stores
from jaxalign.spaces import older_spaces, same_space
from tests import tiny_encoders

# Of the shipped pairs: now, and in files of earlier versions. Neither may change.
SHIPPED = {
    "jaxalign/openmoji-clip": (
        "1167019e84cbcf45f61f29735bdd1e3e32d06be746d5b620977b7b627fccc645",
        "2f83e69bb901639513e5e37bcf363e7bed4d62f296e24842cd133213fe5df30c",
    ),
    "jaxalign/openmoji-siglip": (
        "894214e203989e0701cc2457186de397268cf6900fc527a41ea8db3be6e79158",
        "1afb009ce2011d3c76865c8cbe061a2eac787448fc43c74ef3b92c0197d8afb3",
    ),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_pairs(name):
    space = ja.load_encoders(name).space
    assert (space, older_spaces(space)) == (SHIPPED[name][0], (SHIPPED[name][1],))


def test_one_model_saved_again_is_one_space(hub_folder, tmp_path):
    """The rows were equal before, to the bit, and the fingerprints were not."""
    saved = tiny_encoders.copy_folder(
        hub_folder, tmp_path / "saved", without=("*token*", "vocab*", "merges*", "sp*")
    )
    tokenizer = AutoTokenizer.from_pretrained(str(hub_folder))
    tokenizer(["a", "a red"], padding="max_length", truncation=True, max_length=7)
    tokenizer.save_pretrained(saved)
    for path in saved.glob("*.json"):
        content = json.dumps(json.loads(path.read_text()), indent=3)
        path.write_bytes(content.replace("\n", "\r\n").encode())
    one, other = ja.load_encoders(hub_folder), ja.load_encoders(saved)
    assert one.space == other.space
    texts = ["a red apple", "an emoji"]
    np.testing.assert_array_equal(one.embed_texts(texts), other.embed_texts(texts))


def test_without_preprocessing_there_is_one(folders, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in ("config.json", "model.safetensors"):
        shutil.copy(folders["clip"] / file, bare)
    assert older_spaces(ja.load_encoders(bare).space) == ()


def _write_store(folder, space):
    rows = np.eye(4, 20, dtype=np.float32)
    with ja.EmbeddingStore.create(
        folder, space=space, examples=4, part_examples=4, modalities={"text": 20}
    ) as writer:
        writer.append({"text": rows}, first=0, ids=list("abcd"))
        return writer.finish()


def test_stores_and_maps_of_the_older_are_accepted(loaded, tmp_path):
    space = loaded["clip"].space
    (older,) = older_spaces(space)
    old = _write_store(tmp_path / "old", older)
    assert ja.EmbeddingStore.open(old.folder, space=space).space == older
    # A store that the model writes now remembers, also on the disk.
    new = ja.EmbeddingStore.open(_write_store(tmp_path / "new", space).folder)
    assert (new.space, older_spaces(new.space)) == (space, (older,))
    for opened in (older, str(space), space):
        ja.EmbeddingStore.open(new.folder, space=opened)
    rows = np.asarray(new.rows("text"))
    for known in (older, space):
        path = tmp_path / "map.safetensors"
        ja.fit_map({"text": (rows, rows)}, source_space=known).save(path)
        amap = ja.AlignmentMap.load(path)
        assert (amap.source_space, amap.target_space) == (known, None)
        for given in (old.space, new.space, space):
            amap(rows, "text", space=given)
    # Only a plain string of another version than the file's is of no known model.
    amap = ja.fit_map({"text": (rows, rows)}, source_space=older)
    with pytest.raises(ValueError, match="space="):
        amap(rows, "text", space=str(space))


def test_a_store_of_the_older_is_gone_on_with(loaded, tmp_path):
    space = loaded["siglip"].space
    rows = np.ones((2, 20), np.float32)
    plan = {"examples": 4, "part_examples": 2, "modalities": {"text": 20}}
    with ja.EmbeddingStore.create(
        tmp_path, space=older_spaces(space)[0], **plan
    ) as writer:
        writer.append({"text": rows}, first=0, ids=["a", "b"])
    with ja.EmbeddingStore.create(tmp_path, space=space, **plan) as writer:
        assert writer.missing() == [range(2, 4)]
        writer.append({"text": rows}, first=2, ids=["c", "d"])
        assert same_space(writer.finish().space, older_spaces(space)[0])


def test_stores_of_one_model_are_no_pair(loaded, tmp_path):
    space = loaded["clip"].space
    stores = [
        _write_store(tmp_path / name, one)
        for name, one in (("old", older_spaces(space)[0]), ("new", space))
    ]
    with pytest.raises(ValueError, match="stores of two models"):
        match_stores(*stores)


def test_maps_meet_in_an_older_space(loaded):
    space = loaded["clip"].space
    rows = np.eye(6, dtype=np.float32)
    first = ja.fit_map({"text": (rows, rows)}, target_space=older_spaces(space)[0])
    second = ja.fit_map({"text": (rows, rows)}, source_space=space)
    assert (second @ first).d_source == 6
    # What a space was called before is none of what a map does.
    plain = ja.fit_map({"text": (rows, rows)}, source_space=str(space))
    assert plain.fingerprint == second.fingerprint
