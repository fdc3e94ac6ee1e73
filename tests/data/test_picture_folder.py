# SPDX-License-Identifier: Apache-2.0
import concurrent.futures
import csv
import gc
import json
import os
import pickle
import tracemalloc

import pytest

import jaxalign as ja
from jaxalign.data import caption_files, picture_folder
from jaxalign.data.examples import CataloguedSource
from jaxalign.data.pictures import UnreadablePictureError
from tests.data.made_pictures import level_of, noise, picture

ROWS = [
    {"file_name": "a.png", "caption": "a cat, asleep", "label": "cat"},
    {
        "file_name": "below/b.jpg",
        "caption": "zwei Hunde\nim Grünen",
        "label": "big_dog",
    },
    {"file_name": "c.png", "caption": "", "label": ""},
]


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """Three pictures, not yet listed."""
    (tmp_path / "below").mkdir()
    for level, row in enumerate(ROWS):
        kind = "JPEG" if row["file_name"].endswith("jpg") else "PNG"
        (tmp_path / row["file_name"]).write_bytes(picture(level * 50, kind=kind))
    return tmp_path


@pytest.mark.parametrize("name", picture_folder.CAPTION_FILES)
def test_a_listed_folder_is_read(folder, name):
    write = write_csv if name.endswith("csv") else write_jsonl
    write(folder / name, ROWS)
    info = ja.data.dataset_info(str(folder))
    assert info.splits == ("all",)
    assert info.class_names == ("big_dog", "cat")
    assert info.class_prompts == (("a photo of a big dog.",), ("a photo of a cat.",))
    assert info.class_captions is None
    source = ja.load_dataset(str(folder), "all")
    assert isinstance(source, CataloguedSource)
    assert [(e["id"], e["text"], e["label"]) for e in source] == [
        ("a.png", "a cat, asleep", 1),
        ("below/b.jpg", "zwei Hunde\nim Grünen", 0),
        ("c.png", "", -1),
    ]
    assert [e["path"] for e in source] == ["a.png", "below/b.jpg", "c.png"]
    levels = [level_of(example["image"]) for example in source]
    assert levels == pytest.approx([0, 50, 100], abs=3)
    assert source[-1]["id"] == "c.png"
    with pytest.raises(IndexError):
        source[3]
    again = ja.load_dataset(str(folder / name), "all")  # named itself
    assert again.fingerprint == source.fingerprint


@pytest.mark.parametrize("picture_column", caption_files.PICTURE_COLUMNS)
@pytest.mark.parametrize("caption_column", caption_files.CAPTION_COLUMNS)
def test_columns_have_several_names(folder, picture_column, caption_column):
    rows = [{"other": 1, caption_column: "x", picture_column: "a.png"}]
    write_csv(folder / "my.csv", rows)
    (example,) = ja.load_dataset(str(folder / "my.csv"), "all")
    assert (example["id"], example["text"], example["label"]) == ("a.png", "x", -1)
    info = ja.data.dataset_info(str(folder / "my.csv"))
    assert info.class_names == info.class_prompts == ()


def test_splits_and_ids_of_their_own(folder):
    rows = [
        {"image": "a.png", "split": "train", "id": "1", "text": "one"},
        {"image": "a.png", "split": "train", "id": "2", "text": "two"},
        {"image": "c.png", "split": "test", "id": "1", "text": "three"},
    ]
    write_csv(folder / "captions.csv", rows)
    name = str(folder)
    assert ja.data.dataset_info(name).splits == ("train", "test")
    train, test = (ja.load_dataset(name, split) for split in ("train", "test"))
    assert [example["id"] for example in train] == ["1", "2"]
    assert [example["path"] for example in train] == ["a.png", "a.png"]
    assert [example["text"] for example in test] == ["three"]
    assert train.fingerprint != test.fingerprint
    with pytest.raises(ValueError, match="split='val'.*train, test"):
        ja.load_dataset(name, "val")


def test_without_captions_the_class_is_the_caption(folder):
    rows = [{"path": name, "class": label} for name, label in PAIRS]
    write_jsonl(folder / "captions.jsonl", rows)
    info = ja.data.dataset_info(str(folder))
    assert info.class_captions == ("big dog", "cat")
    source = ja.load_dataset(str(folder), "all")
    assert [example["text"] for example in source] == ["cat", "big dog", ""]


PAIRS = [("a.png", "cat"), ("below/b.jpg", "big_dog"), ("c.png", None)]


def test_whole_numbers_are_classes_in_numerical_order(folder):
    numbers = [10, 9, -1]
    rows = [{"path": p, "label": n} for (p, _), n in zip(PAIRS, numbers, strict=True)]
    write_jsonl(folder / "metadata.jsonl", rows)
    assert ja.data.dataset_info(str(folder)).class_names == ("9", "10")
    source = ja.load_dataset(str(folder), "all")
    assert [example["label"] for example in source] == [1, 0, -1]


def test_excel_writes_a_mark_first(folder):
    text = '\ufefffile_name, caption\r\na.png, "one, two"\r\n\r\nc.png,three\r\n'
    (folder / "captions.csv").write_bytes(text.encode())
    source = ja.load_dataset(str(folder), "all")
    assert [example["text"] for example in source] == ["one, two", "three"]


BAD_CSV = {
    "no picture column": (
        "caption\nx\n",
        "expected a column file_name, .* or filepath",
    ),
    "no text column": ("path\na.png\n", "expected a column caption, .* or class, got"),
    "semicolons": ("path;caption\na.png;x\n", "a CSV file needs a header and commas"),
    "only a header": ("path,caption\n", "expected a line a picture"),
    "empty": ("", "expected a line a picture"),
    "a column twice": ("path,caption,caption\na,b,c\n", "expected each column once"),
    "too few cells": ("path,caption\na.png,x\nc.png\n", "line 3.*: expected 2 cells"),
    "too many": ('path,caption\n"a\n",x\nc.png,x,y\n', "line 4.*: expected 2 .*quotes"),
    "open quote": ('path,caption\na.png,"x\n', "line 2.*a row of a CSV file"),
    "no path": ("path,caption\n,x\n", "line 2, 'path'.*empty"),
    "no split": ("path,caption,split\na.png,x,\n", "line 2, 'split'.*empty"),
    "twice": (
        "path,caption\na.png,x\nc.png,y\na.png,z\n",
        "got 'a.png' on the lines 2 and 4; a column `id`",
    ),
    "Latin": ("path,caption\na.png,\xe9\n".encode("latin-1"), "in UTF-8.*save it"),
    "absolute": ("path,caption\n/etc/x.png,x\n", "line 2.*: .*leads out of it"),
    "climbing": ("path,caption\nb/../../x.png,x\n", "line 2.*: .*leads out of it"),
    "NUL in a path": (
        "path,caption\na\0.png,x\n",
        "line 2, 'path'.*: .* NUL character",
    ),
    "NUL in an id": ("path,text,id\na.png,x,\0\n", "line 2, 'id'.*: .*NUL .*remove it"),
    "NUL in a split": ("path,text,split\na.png,x,\0\n", "line 2, 'split'.*: .* NUL"),
    "a label of digits": (
        f"path,label\na.png,1\nc.png,{'9' * 5000}\n",
        "line 3, 'label'.*: .*at most 1000 characters, got 5000 .*is a caption",
    ),
    "Windows": ("path,caption\nC:\\x.png,x\n", "line 2.*: .*leads out of it"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_a_bad_csv_is_told_with_its_line(folder, case):
    content, told = BAD_CSV[case]
    encoded = content if isinstance(content, bytes) else content.encode()
    (folder / "captions.csv").write_bytes(encoded)
    with pytest.raises(ValueError, match=told) as caught:
        ja.data.dataset_info(str(folder))
    assert str(folder / "captions.csv") in str(caught.value)


BAD_JSONL = {
    "no object": ('["a.png", "x"]\n', "line 1.*: expected a JSON object"),
    "no JSON": (
        '{"path": "a.png", "text": "x"}\n\n{"path"\n',
        "line 3.*: expected a JSON",
    ),
    "a column missing": (
        '{"path": "a.png", "text": "x"}\n{"path": "c.png"}\n',
        "line 2, 'text'.*missing column",
    ),
    "a list": (
        '{"path": "a.png", "text": ["x"]}\n',
        "line 1.*: expected text or a whole",
    ),
    "a truth": (
        '{"path": "a.png", "label": true}\n',
        "'label'.*whole number, got True",
    ),
    **{
        f"half a character in {name}": (
            json.dumps({"path": "a.png", "text": "x", name: "a\ud83d"}) + "\n",
            rf"line 1, '{name}'.*: .*surrogate pair, '\\ud83d'; write both halves",
        )
        for name in ("path", "text", "label", "split", "id")
    },
    "a number as a label": (
        f'{{"path": "a.png", "label": {"9" * 5000}}}\n',
        "line 1, 'label'.*: .*at most 1000 characters, got 5000",
    ),
    "a null path": ('{"path": null, "text": "x"}\n', "line 1, 'path'.*empty"),
}


@pytest.mark.parametrize("case", BAD_JSONL)
def test_a_bad_jsonl_is_told_with_its_line(folder, case):
    content, told = BAD_JSONL[case]
    (folder / "captions.jsonl").write_text(content)
    with pytest.raises(ValueError, match=told):
        ja.data.dataset_info(str(folder))


def test_unreadable_pictures_are_told_one_by_one(folder):
    (folder / "cut.jpg").write_bytes(noise()[:900])
    names = ["a.png", "cut.jpg", "gone.png", "below", "c.png"]
    write_csv(folder / "captions.csv", [{"path": p, "text": "x"} for p in names])
    source = ja.load_dataset(str(folder), "all")
    reasons = {1: "damaged", 2: "No such file", 3: "not a file"}
    for index, name in enumerate(names):
        if index not in reasons:
            assert source[index]["id"] == name
            continue
        with pytest.raises(UnreadablePictureError, match=reasons[index]) as caught:
            source[index]
        assert caught.value.id == name


def test_a_changed_list_is_read_anew_and_known_by_its_fingerprint(folder):
    path = folder / "captions.csv"
    prints = []
    for change in (
        {},
        {"caption": "another"},
        {"label": "cat"},
        {"file_name": "a.png"},
    ):
        write_csv(path, [ROWS[1], {**ROWS[2], **change}])
        os.utime(path, ns=(0, len(prints)))
        prints.append(ja.load_dataset(str(folder), "all").fingerprint)
    assert len(set(prints)) == 4
    assert all(int(found, 16) >= 0 for found in prints)


def test_a_list_is_read_once(folder, monkeypatch):
    write_csv(folder / "captions.csv", ROWS)
    ja.data.dataset_info(str(folder))
    monkeypatch.setattr(caption_files, "_csv_rows", None)
    assert len(ja.load_dataset(str(folder), "all")) == 3


def test_sources_travel_and_take_threads(folder):
    write_csv(folder / "captions.csv", ROWS)
    source = ja.load_dataset(str(folder), "all")
    source[0]
    copied = pickle.loads(pickle.dumps(source))
    assert copied.fingerprint == source.fingerprint
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda n: copied[n % 3]["id"], range(300))
        assert list(found) == [ROWS[n % 3]["file_name"] for n in range(300)]


@pytest.mark.usefixtures("no_shape_hook")
def test_many_rows_stay_small(tmp_path):
    count = 10_000
    lines = (
        f"pictures/{n:06d}.jpg,a caption of picture number {n:06d},{n % 100}\n"
        for n in range(count)
    )
    (tmp_path / "captions.csv").write_text("path,caption,label\n" + "".join(lines))
    tracemalloc.start()
    source = ja.load_dataset(str(tmp_path), "all")
    gc.collect()  # Python keeps freed tuples for reuse
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source) == count
    # The strings themselves are 54 bytes a row; Python objects would be over 300.
    assert kept < 20 * count
    assert len(pickle.dumps(source)) < 70 * count
    assert source._text(7_777, 0) == "a caption of picture number 007777"
