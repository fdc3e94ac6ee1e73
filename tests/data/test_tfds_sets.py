# SPDX-License-Identifier: Apache-2.0
import concurrent.futures
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys

import pytest

import jaxalign as ja
from jaxalign import locks
from jaxalign.data import tfds_preparing
from jaxalign.data.pictures import UnreadablePictureError
from jaxalign.data.tfds_sets import TFDS_SETS
from tests.data import tiny_tfds
from tests.data.made_pictures import level_of, noise, picture
from tests.data.tiny_tfds import tfds

PETS = TFDS_SETS["oxford_iiit_pet"]
MASK = picture(1, mode="L")


def pet(number, **changes):
    """One example as TFDS writes those of `oxford_iiit_pet`."""
    return {
        "image": picture(number, kind="JPEG"),
        "label": number % 37,
        "species": number % 2,
        "file_name": f"pet_{number}.jpg",
        "segmentation_mask": MASK,
        "head_bbox": tfds.features.BBox(0.0, 0.0, 0.0, 0.0),
        **changes,
    }


def pet_features(labels=PETS.labels):
    return {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=labels),
        "species": tfds.features.ClassLabel(names=["Cat", "Dog"]),
        "file_name": tfds.features.Text(),
        "segmentation_mask": tfds.features.Image(
            shape=(None, None, 1), use_colormap=True
        ),
        "head_bbox": tfds.features.BBoxFeature(),
    }


@pytest.fixture(scope="session")
def pets_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    tiny_tfds.prepare(
        root,
        PETS.name,
        pet_features(),
        {
            "train": [pet(n) for n in range(5)],
            "test": [pet(n) for n in range(40)]
            + [pet(40, image=noise()[:900], file_name="broken.jpg")],
        },
    )
    return root


def test_a_prepared_set_is_read_without_tensorflow(pets_dir):
    source = ja.load_dataset("oxford_iiit_pet", "test", data_dir=pets_dir)
    info = ja.data.dataset_info("oxford_iiit_pet")
    assert len(source) == 41
    for number in (0, 7, 39):
        example = source[number]
        assert abs(level_of(example.pop("image")) - number) < 3  # it is a JPEG
        assert example == {
            "id": f"pet_{number}.jpg",
            "label": number % 37,
            "text": info.class_captions[number % 37],
        }
    with pytest.raises(UnreadablePictureError, match=r"'broken.jpg'.*damaged"):
        source[40]
    with pytest.raises(IndexError):
        source[41]
    assert len(ja.load_dataset("oxford_iiit_pet", "train", data_dir=pets_dir)) == 5
    assert "tensorflow" not in sys.modules


def test_in_memory_keeps_pictures_and_their_faults(pets_dir):
    source = ja.load_dataset("oxford_iiit_pet", "test", data_dir=pets_dir)
    kept = ja.load_dataset("oxford_iiit_pet", "test", data_dir=pets_dir, in_memory=True)
    assert kept.fingerprint == source.fingerprint
    assert len(kept) == len(source)
    assert kept[3] is kept[3]
    assert kept[3]["id"] == source[3]["id"]
    for _ in range(2):
        with pytest.raises(UnreadablePictureError, match=r"broken.jpg"):
            kept[40]


@pytest.mark.parametrize("name", TFDS_SETS)
def test_classes_are_those_of_tfds_in_its_order(name, tmp_path):
    builder = tfds.builder(name, data_dir=str(tmp_path))
    label = builder.info.features["label"]
    ours = TFDS_SETS[name]
    assert label.num_classes == len(ours.labels) == len(set(ours.class_names))
    if name in ("cifar100", "stl10"):  # TFDS reads their names from the download
        assert label.names[:2] == ["0", "1"]
        assert list(ours.labels) == sorted(ours.labels)
    else:
        assert tuple(label.names) == ours.labels
    text = builder.info.features.keys()
    assert all(field in [*text, "class_name"] for field in _fields(ours.id_format))


def _fields(id_format):
    return [part.split("}")[0] for part in id_format.split("{")[1:]]


# Of the labels as the files of the data sets list them (fine_label_names.txt of CIFAR,
# class_names.txt of STL-10), joined by commas.
@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("cifar100", "apple,aquarium_fish", "worm"),
        ("stl10", "airplane,bird,car", "truck"),
    ],
)
def test_classes_that_tfds_does_not_name(name, first, last):
    labels = ",".join(TFDS_SETS[name].labels)
    assert labels.startswith(first)
    assert labels.endswith(last)


@pytest.mark.parametrize("name", TFDS_SETS)
def test_info_is_whole_and_needs_neither_tfds_nor_data(name):
    info = ja.data.dataset_info(name)
    assert info.class_captions == info.class_names
    assert len(info.class_prompts) == len(info.class_names)
    assert not any("_" in text for text in info.class_names)
    assert "train" in info.splits
    assert "test" in info.splits
    assert info.credit
    assert info.license
    code = (
        f"import sys, jaxalign as ja; ja.data.dataset_info({name!r}); "
        "print({'tensorflow_datasets', 'tensorflow', 'pyarrow'} & set(sys.modules))"
    )
    if name == "stl10":
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout == "set()\n"


def test_preparing_needs_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    told = r"`stl10` needs TensorFlow, once: pip install 'jaxalign\[tfds\]'; looked .*"
    with pytest.raises(ModuleNotFoundError, match=told + str(tmp_path / "new")):
        ja.load_dataset("stl10", "train", data_dir=tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


class _Builder:
    """Stands in for TFDS's builder of a data set, which would download gigabytes."""

    def __init__(self, root, error=None):
        self.data_dir = str(root / PETS.name / "4.0.0")
        self._root = root
        self._error = error

    def download_and_prepare(self, *, download_dir):
        assert download_dir == str(self._root / "downloads")
        if self._error:
            raise self._error
        tiny_tfds.prepare(
            self._root, PETS.name, pet_features(), {"test": [pet(1), pet(2)]}
        )


@pytest.fixture
def with_tensorflow(monkeypatch):
    """Pretend that TensorFlow is there, and let TFDS give a stand-in's builder."""
    monkeypatch.setattr(tfds_preparing, "_check_tensorflow", lambda name, root: None)

    def use(builder):
        calls = []
        monkeypatch.setattr(
            tfds_preparing.tfds,
            "builder",
            lambda name, **options: calls.append((name, options)) or builder,
        )
        return calls

    return use


def test_a_missing_set_is_prepared_once_as_array_record(tmp_path, with_tensorflow):
    left = tmp_path / PETS.name / "incomplete.ABC_4.0.0"
    left.mkdir(parents=True)
    calls = with_tensorflow(_Builder(tmp_path))
    for _ in range(2):
        source = ja.load_dataset("oxford_iiit_pet", "test", data_dir=tmp_path)
        assert [example["id"] for example in source] == ["pet_1.jpg", "pet_2.jpg"]
    assert calls == [
        (PETS.name, {"data_dir": str(tmp_path), "file_format": "array_record"})
    ]
    assert not left.exists()
    told = "expected the split 'train' of oxford_iiit_pet, got test; delete"
    with pytest.raises(ValueError, match=told):
        ja.load_dataset("oxford_iiit_pet", "train", data_dir=tmp_path)


def test_who_waits_for_the_lock_prepares_nothing(tmp_path, with_tensorflow):
    calls = with_tensorflow(_Builder(tmp_path))
    names = ("oxford_iiit_pet", "test")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with locks.locked(tmp_path / ".oxford_iiit_pet.lock"):
            waiting = pool.submit(ja.load_dataset, *names, data_dir=tmp_path)
            with pytest.raises(concurrent.futures.TimeoutError):
                waiting.result(timeout=0.3)
            tiny_tfds.prepare(tmp_path, PETS.name, pet_features(), {"test": [pet(3)]})
        (example,) = waiting.result(timeout=30)
    assert example["id"] == "pet_3.jpg"
    assert calls == []


def test_a_failed_download_is_told(tmp_path, with_tensorflow):
    with_tensorflow(_Builder(tmp_path, ConnectionError("no route to host")))
    told = r"download and prepare.*no route to host; start again: what is in"
    with pytest.raises(ValueError, match=told):
        ja.load_dataset("oxford_iiit_pet", "test", data_dir=tmp_path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path, with_tensorflow):
    (tmp_path / "file").touch()
    with_tensorflow(_Builder(tmp_path))
    with pytest.raises(ValueError, match="data_dir"):
        ja.load_dataset("oxford_iiit_pet", "test", data_dir=tmp_path / "file")


@pytest.mark.usefixtures("no_shape_hook")
def test_labels_of_another_data_set_are_refused(tmp_path):
    swapped = (PETS.labels[1], PETS.labels[0], *PETS.labels[2:])
    tiny_tfds.prepare(tmp_path, PETS.name, pet_features(swapped), {"test": [pet(1)]})
    told = "expected the 37 classes of oxford_iiit_pet .*got others .american_bulldog"
    with pytest.raises(ValueError, match=told):
        ja.load_dataset("oxford_iiit_pet", "test", data_dir=tmp_path)


def test_the_newest_version_is_read(tmp_path, pets_dir):
    for version in ("3.9.0", "10.0.0"):
        tiny_tfds.prepare(
            tmp_path,
            PETS.name,
            pet_features(),
            {"test": [pet(int(version[0]))]},
            version=version,
        )
    (source,) = ja.load_dataset("oxford_iiit_pet", "test", data_dir=tmp_path)
    assert source["id"] == "pet_1.jpg"


def test_ids_and_texts_of_the_other_sets(tmp_path):
    features = {
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(names=TFDS_SETS["caltech101"].labels),
        "image/file_name": tfds.features.Text(),
    }
    faces = {"image": picture(1), "label": "faces", "image/file_name": "image_0001.jpg"}
    ants = {**faces, "label": "ant"}
    tiny_tfds.prepare(tmp_path, "caltech101", features, {"test": [faces, ants]})
    source = ja.load_dataset("caltech101", "test", data_dir=tmp_path)
    assert [(e["id"], e["text"]) for e in source] == [
        ("faces/image_0001.jpg", "off-center face"),
        ("ant/image_0001.jpg", "ant"),
    ]

    features = {
        "image": tfds.features.Image(shape=(4, 6, 3)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    rows = [{"image": picture(n), "label": -1} for n in range(2)]
    tiny_tfds.prepare(tmp_path, "stl10", features, {"unlabelled": rows})
    source = ja.load_dataset("stl10", "unlabelled", data_dir=tmp_path)
    assert [(e["id"], e["text"], e["label"]) for e in source] == [
        ("unlabelled/000000", "", -1),
        ("unlabelled/000001", "", -1),
    ]


def test_sources_travel_to_other_processes(pets_dir):
    source = ja.load_dataset("oxford_iiit_pet", "test", data_dir=pets_dir)
    source[0]  # its files are open now
    code = (
        "import pickle, sys\n"
        "source = pickle.loads(sys.stdin.buffer.read())\n"
        "print(len(source), source[39]['id'], source.fingerprint)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        input=pickle.dumps(source),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == f"41 pet_39.jpg {source.fingerprint}\n"
    assert done.stderr == b""


def test_fingerprints_tell_splits_and_contents_apart(pets_dir, tmp_path):
    def fingerprint(root, split):
        return ja.load_dataset("oxford_iiit_pet", split, data_dir=root).fingerprint

    copied = tmp_path / "copied"
    shutil.copytree(pets_dir, copied)
    assert fingerprint(copied, "test") == fingerprint(pets_dir, "test")
    changed = tmp_path / "changed"
    rows = {"train": [pet(n) for n in range(5)], "test": [pet(1)]}
    tiny_tfds.prepare(changed, PETS.name, pet_features(), rows)
    prints = {
        fingerprint(root, split)
        for root in (pets_dir, changed)
        for split in ("train", "test")
    }
    assert len(prints) == 4
    assert all(int(found, 16) >= 0 for found in prints)
    assert len(prints.pop()) == len(hashlib.sha256().hexdigest())


def test_a_damaged_record_is_one_unreadable_picture(pets_dir, tmp_path):
    shutil.copytree(pets_dir, tmp_path, dirs_exist_ok=True)
    path = next((tmp_path / PETS.name).glob("*/*-test.array_record*"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"pet_0.jpg", b"pet_?.jpg"))  # its checksum fails
    source = ja.load_dataset("oxford_iiit_pet", "test", data_dir=tmp_path)
    with pytest.raises(UnreadablePictureError, match="its record is damaged") as caught:
        source[0]
    assert caught.value.id == "test/000000"
    assert source[1]["id"] == "pet_1.jpg"


def _lose_records(folder):
    path = folder / "dataset_info.json"
    path.write_text(path.read_text().replace('"41"', '"42"'))


def _cut(folder):
    path = next(folder.glob("*-test.array_record*"))
    os.truncate(path, path.stat().st_size - 100)


def _remove_shard(folder):
    next(folder.glob("*-test.array_record*")).unlink()


def _break_info(folder):
    (folder / "dataset_info.json").write_text("{")


def _remove_info(folder):
    (folder / "dataset_info.json").unlink()


@pytest.mark.parametrize(
    "damage", [_cut, _lose_records, _remove_shard, _break_info, _remove_info]
)
def test_a_damaged_folder_is_told(pets_dir, tmp_path, damage):
    shutil.copytree(pets_dir, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / PETS.name / "4.0.0")
    with pytest.raises(ValueError, match="got a damaged one .*delete the folder"):
        ja.load_dataset("oxford_iiit_pet", "test", data_dir=tmp_path)


def test_other_file_formats_are_refused_with_a_remedy(pets_dir, tmp_path):
    shutil.copytree(pets_dir, tmp_path, dirs_exist_ok=True)
    path = tmp_path / PETS.name / "4.0.0" / "dataset_info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    told = "got tfrecord; prepare the data set anew in another `data_dir`"
    with pytest.raises(ValueError, match=told):
        ja.load_dataset("oxford_iiit_pet", "test", data_dir=tmp_path)
