# SPDX-License-Identifier: Apache-2.0
import os

import pytest

import jaxalign as ja
from jaxalign.data import own_data
from tests.data import tiny_tfds
from tests.data.made_pictures import level_of, picture
from tests.data.tiny_tfds import tfds


@pytest.mark.parametrize("name", ["imagenet", "no/such/folder", "~/no-such.csv"])
def test_nothing_at_a_path_lists_the_catalog(name):
    told = "expected one of openmoji, .*stl10, or the path of your own"
    with pytest.raises(ValueError, match=told):
        ja.data.dataset_info(name)
    with pytest.raises(ValueError, match=r"`load_dataset\(name="):
        ja.load_dataset(name, "all")


def test_a_name_of_the_catalog_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dtd").mkdir()
    assert len(ja.data.dataset_info("dtd").class_names) == 47
    with pytest.raises(ValueError, match="expected a folder with captions.csv"):
        ja.data.dataset_info("./dtd")


def test_a_folder_without_data_says_what_is_looked_for(tmp_path):
    told = r"captions.csv, .*metadata.jsonl .*\*.tar .*dataset_info.json and features"
    with pytest.raises(ValueError, match=told):
        ja.data.dataset_info(str(tmp_path))


def test_two_lists_in_a_folder_are_one_too_many(tmp_path):
    for name in ("captions.csv", "metadata.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="got captions.csv and metadata.jsonl; give"):
        ja.data.dataset_info(str(tmp_path))


def test_another_file_is_refused(tmp_path):
    (tmp_path / "data.zip").touch()
    with pytest.raises(
        ValueError, match="expected a folder, a .csv, a .jsonl or a .tar"
    ):
        ja.data.dataset_info(str(tmp_path / "data.zip"))


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "my.csv").write_text("path,text\na.png,x\n")
    (example,) = ja.load_dataset("~/my.csv", "all")
    assert example["id"] == "a.png"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_list_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "my.csv").touch(mode=0)
    with pytest.raises(ValueError, match="can be read, got Permission denied"):
        ja.data.dataset_info(str(tmp_path / "my.csv"))


IMAGE = {"image": tfds.features.Image()}


def test_a_tfds_folder_with_captions_and_ids(tmp_path):
    features = {
        **IMAGE,
        "caption": tfds.features.Text(),
        "id": tfds.features.Text(),
        "label": tfds.features.ClassLabel(names=["b_b", "a"]),
    }
    rows = [
        {"image": picture(n), "caption": f"é {n}", "id": f"id{n}", "label": n % 2}
        for n in range(3)
    ]
    folder = tiny_tfds.prepare(
        tmp_path, "mine", features, {"val": rows, "tune": rows[:1]}
    )
    info = ja.data.dataset_info(str(folder))
    assert info.splits == ("val", "tune")
    assert info.class_names == ("b_b", "a")
    assert info.class_prompts[0] == ("a photo of a b b.",)
    assert info.class_captions is None
    source = ja.load_dataset(str(folder), "val")
    assert [(e["id"], e["text"], e["label"]) for e in source] == [
        (f"id{n}", f"é {n}", n % 2) for n in range(3)
    ]
    assert [level_of(example["image"]) for example in source] == [0, 1, 2]


def test_a_tfds_folder_with_labels_alone(tmp_path):
    features = {**IMAGE, "label": tfds.features.ClassLabel(names=["b_b", "a"])}
    rows = [{"image": picture(n), "label": n % 2} for n in range(2)]
    folder = tiny_tfds.prepare(tmp_path, "mine", features, {"train": rows})
    assert ja.data.dataset_info(str(folder)).class_captions == ("b b", "a")
    source = ja.load_dataset(str(folder), "train")
    assert [(e["id"], e["text"]) for e in source] == [
        ("train/000000", "b b"),
        ("train/000001", "a"),
    ]


@pytest.mark.parametrize(
    ("features", "row", "told"),
    [
        (IMAGE, {"image": picture(1)}, "expected a text feature `caption` or `text`"),
        ({"text": tfds.features.Text()}, {"text": "x"}, "expected a feature `image`"),
    ],
)
def test_a_tfds_folder_without_pictures_or_texts(tmp_path, features, row, told):
    folder = tiny_tfds.prepare(tmp_path, "mine", features, {"train": [row]})
    with pytest.raises(ValueError, match=told):
        ja.data.dataset_info(str(folder))
    with pytest.raises(ValueError, match=f"pass '{folder}'"):
        own_data.open_own_data(str(folder.parent))
