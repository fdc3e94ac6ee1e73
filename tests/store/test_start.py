# SPDX-License-Identifier: Apache-2.0
"""Who may write into a folder, and what happens to those who may not: nothing."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxalign.store.documents import digest
from jaxalign.store.reader import EmbeddingStore
from tests.store.writing import Data, tree

ROOT = Path(__file__).parents[2]


def start_some(folder: Path) -> None:
    with Data().create(folder) as writer:
        Data().append(writer, range(0, 4))
        Data().append(writer, range(4, 6))


def rewrite(path: Path, **changes) -> None:
    """Change a document and its checksum with it."""
    document = {**json.loads(path.read_text()), **changes}
    document["sha256"] = digest(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("begin", [start_some, Data().write], ids=["begun", "finished"])
@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"space": "beef" * 16}, 'space: "f00d.*" there, "beef.*" here'),
        ({"dtype": "float16"}, 'dtype: "float32" there, "float16" here'),
        ({"modalities": {"image": 3}}, "modalities.text: 3 there, nothing here"),
        ({"examples": 12}, "examples: 11 there, 12 here"),
        ({"part_examples": 5}, "part_examples: 4 there, 5 here"),
        (
            {"details": {"model": "other", "data": {"name": "made up"}}},
            'details.model: "tiny" there, "other" here; details.data.seeds: ',
        ),
    ],
)
def test_another_store_is_refused_untouched(tmp_path, begin, changes, match):
    begin(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=match + ".*name another folder"):
        Data().create(tmp_path, **changes)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"space": ""}, "pass `encoders.space`"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"modalities": {}}, "pass {'image': 512, 'text': 512}"),
        ({"modalities": {"audio": 3}}, "pass {'image': 512, 'text': 512}"),
        ({"modalities": {"text": 0}}, r"text=0"),
        ({"examples": 0}, r"\(examples=0"),
        ({"part_examples": 2.5}, "part_examples=2.5"),
        ({"details": {"a": object()}}, "keep strings, numbers"),
        ({"details": {"a": float("nan")}}, "keep strings, numbers"),
        ({"process_index": -1}, "pass `jax.process_index"),
    ],
)
@pytest.mark.usefixtures("no_shape_hook")
def test_arguments_that_cannot_be_are_refused(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        Data().create(tmp_path / "store", **changes)
    assert not (tmp_path / "store").exists()


def test_details_are_compared_as_json(tmp_path):
    details = {"b": (1, 2), "a": {"y": 1, "x": None}}
    Data().create(tmp_path, details=details).close()
    same = {"a": {"x": None, "y": 1}, "b": [1, 2]}
    Data().create(tmp_path, details=same).close()


@pytest.mark.parametrize(
    ("found", "match"),
    [
        ("jaxalign-store/2", "newer .*pip install --upgrade jaxalign"),
        ("jaxalign-store/0", "older .*install the jaxalign that wrote it"),
        ("jaxalign-map/1", "this folder is not a store"),
        (None, "this folder is not a store"),
    ],
)
@pytest.mark.parametrize(
    ("begin", "name"),
    [(start_some, ".unfinished/plan.json"), (Data().write, "manifest.json")],
    ids=["begun", "finished"],
)
def test_other_formats_are_refused_untouched(tmp_path, begin, name, found, match):
    begin(tmp_path)
    rewrite(tmp_path / name, format=found)
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=match):
        Data().create(tmp_path)
    with pytest.raises(ValueError, match=match):
        EmbeddingStore.open(tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("begin", "name"),
    [(start_some, ".unfinished/plan.json"), (Data().write, "manifest.json")],
    ids=["begun", "finished"],
)
@pytest.mark.parametrize("damage", ["cut", "flip", "list"])
def test_damaged_documents_are_refused_untouched(tmp_path, begin, name, damage):
    begin(tmp_path)
    text = (tmp_path / name).read_text()
    worse = {
        "cut": text[: len(text) // 2],
        "flip": text.replace("made up", "made op"),
        "list": "[]",
    }
    (tmp_path / name).write_text(worse[damage])
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="json.*embed into another"):
        Data().create(tmp_path)
    with pytest.raises(ValueError, match="json.*embed into another"):
        EmbeddingStore.open(tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["img_emb/img_emb_0.npy", "metadata/deep/x.parquet"])
def test_rows_of_other_programs_are_refused_untouched(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"theirs")
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=f"{name} in .*move these files away"):
        Data().create(tmp_path)
    assert tree(tmp_path) == before


def test_files_that_other_readers_would_count_are_refused_at_the_end(tmp_path):
    data = Data()
    with data.create(tmp_path) as writer:
        data.fill(writer)
        stray = tmp_path / "img_emb" / "copy of img_emb_0.npy"
        stray.write_bytes(b"")
        with pytest.raises(ValueError, match="move these files away"):
            writer.finish()
        stray.unlink()
        assert len(writer.finish()) == 10


def test_other_files_in_the_folder_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    Data().write(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


HOLD = """
import sys
from pathlib import Path
from tests.store.writing import Data
writer = Data().create(Path(sys.argv[1]))
Data().append(writer, range(0, 2))
print("holding", flush=True)
sys.stdin.read()
"""


def test_a_second_run_is_refused_and_may_go_on_after_the_first(tmp_path):
    folder = tmp_path / "store"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, os.fspath(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"holding\n"
        before = tree(folder)
        with pytest.raises(ValueError, match="another run .*process 0"):
            Data().create(folder)
        assert tree(folder) == before
        # Another process of the same run.
        with Data().create(folder, process_index=1) as second:
            assert second.missing(0, 4) == [range(2, 4)]
        first.kill()
    assert len(Data().write(folder)) == 10


def test_one_process_does_not_open_two_writers(tmp_path):
    with Data().create(tmp_path):
        with pytest.raises(ValueError, match="another run that is writing"):
            Data().create(tmp_path)


def test_a_store_finished_between_the_look_and_the_lock(tmp_path, monkeypatch):
    """Whoever waits for the plan's lock meanwhile finds the store finished."""
    from jaxalign.store import start

    take = start._lock

    def slow(call, folder, process_index):
        monkeypatch.setattr(start, "_lock", take)
        Data().write(tmp_path)
        return take(call, folder, process_index)

    monkeypatch.setattr(start, "_lock", slow)
    with Data().create(tmp_path) as writer:
        assert writer.is_finished
    assert not (tmp_path / ".unfinished").exists()


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(ValueError, match="can be written, .*; name another"):
            Data().create(place)

    def read_only(path, *arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    start_some(tmp_path / "store")
    before = tree(tmp_path)
    monkeypatch.setattr(os, "mkdir", read_only)
    for place in ("store", "new"):
        with pytest.raises(ValueError, match=r"\(Read-only file system\); name anoth"):
            Data().create(tmp_path / place)
    monkeypatch.undo()
    (tmp_path / "store/.unfinished/tmp-0").mkdir()
    assert tree(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match=r"\(Permission denied\); name another"):
        Data().create(tmp_path)
    tmp_path.chmod(0o700)


def test_store_imports_fast_and_without_jax():
    code = (
        "import sys, jaxalign as ja; ja.EmbeddingStore, ja.store.StoreWriter; "
        "print(sorted({'jax', 'flax', 'pandas', 'PIL', 'grain'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr
