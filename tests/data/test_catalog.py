# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

from jaxalign.data import catalog
from tests.data.made_pictures import picture


def test_examples_have_the_documented_keys(data_dir, tiny_splits):
    source = catalog.load_dataset("openmoji/tiny", "unseen", data_dir=data_dir)
    info = catalog.dataset_info("openmoji/tiny")
    assert len(source) == len(tiny_splits["unseen"])
    example = source[1]
    assert example["image"].shape == (64, 64, 3)
    assert example["image"].dtype == np.uint8
    texts = {k for k, v in example.items() if isinstance(v, str)}
    assert texts == {
        *("id", "text", "emoji", "name", "keywords", "subgroup", "concept", "thing"),
        *("rendering", "style", "background"),
    }
    assert example["is_query"] == (example["rendering"] == "plain")
    assert info.class_names[example["label"]] == example["subgroup"]
    assert 0 <= example["category"] < len(info.category_names)
    assert example["id"] == f"{example['emoji']}/{example['rendering']}"
    for split, examples in tiny_splits.items():
        assert len({e["id"] for e in examples}) == len(examples), split


def test_in_memory_examples_are_those_of_the_files(data_dir, tiny_splits):
    source = catalog.load_dataset("openmoji/tiny", "learnt", data_dir=data_dir)
    for index in (0, 7, len(source) - 1):
        kept = tiny_splits["learnt"][index]
        read = source[index]
        assert read.keys() == kept.keys()
        np.testing.assert_array_equal(read.pop("image"), kept["image"])
        assert read == {k: v for k, v in kept.items() if k != "image"}


def test_a_source_is_a_python_sequence(tiny_splits, data_dir):
    source = catalog.load_dataset("openmoji/tiny", "unseen", data_dir=data_dir)
    kept = tiny_splits["unseen"]
    assert [example["id"] for example in source] == [e["id"] for e in kept]
    assert source[-1]["id"] == kept[-1]["id"]
    for index in (len(source), -len(source) - 1):
        with pytest.raises(IndexError):
            source[index]


def test_info_needs_no_data():
    info = catalog.dataset_info("openmoji")
    assert len(info.class_names) == len(info.class_prompts) == 98
    assert len(info.category_names) == 9
    assert "CC BY-SA 4.0" in info.credit
    assert info.splits == ("source_train", "target_train", "learnt", "unseen")


def test_unknown_names_list_what_exists(tmp_path):
    with pytest.raises(ValueError, match="imagenet.*openmoji/tiny"):
        catalog.dataset_info("imagenet")
    with pytest.raises(ValueError, match="imagenet"):
        catalog.load_dataset("imagenet", "train", data_dir=tmp_path)
    with pytest.raises(ValueError, match="split=.train.*source_train"):
        catalog.load_dataset("openmoji", "train", data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_default_folder_is_the_users_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert catalog.default_data_dir() == Path("/somewhere/jaxalign/datasets")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    expected = Path("/home/someone/.cache/jaxalign/datasets")
    assert catalog.default_data_dir() == expected


def test_only_prepared_data_need_a_home(monkeypatch, tmp_path):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ValueError, match="data_dir.*HOME"):
        catalog.load_dataset("openmoji/tiny", "unseen")
    (tmp_path / "a.png").write_bytes(picture(0))
    (tmp_path / "captions.csv").write_text("file_name,caption\na.png,one\n")
    assert len(catalog.load_dataset(str(tmp_path), "all")) == 1


def test_class_split_is_disjoint_whole_and_repeatable():
    labels = np.array([3, 3, 9, 1, 4, 4, 7])
    anchors, heldout = catalog.split_classes(labels, seed=0)
    again = catalog.split_classes(labels[::-1].copy(), seed=0)
    np.testing.assert_array_equal(anchors, again[0])
    np.testing.assert_array_equal(heldout, again[1])
    assert sorted([*anchors, *heldout]) == [1, 3, 4, 7, 9]
    assert (np.diff(anchors) > 0).all()
    assert (np.diff(heldout) > 0).all()
    splits = {tuple(catalog.split_classes(labels, seed=s)[0]) for s in range(8)}
    assert len(splits) > 1


@pytest.mark.parametrize(("fraction", "count"), [(0.01, 1), (0.5, 5), (0.99, 9)])
def test_class_split_leaves_a_class_on_either_side(fraction, count):
    labels = np.arange(10)
    anchors, heldout = catalog.split_classes(labels, seed=1, fraction=fraction)
    assert (len(anchors), len(heldout)) == (count, 10 - count)


@pytest.mark.parametrize(
    ("labels", "fraction"), [([5, 5], 0.5), ([1, 2], 0.0), ([1, 2], 1.0)]
)
def test_class_split_refuses_what_it_cannot_split(labels, fraction):
    with pytest.raises(ValueError, match="labels.*fraction"):
        catalog.split_classes(np.array(labels), seed=0, fraction=fraction)
