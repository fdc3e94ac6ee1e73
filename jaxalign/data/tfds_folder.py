# SPDX-License-Identifier: Apache-2.0
"""A data set in the folder where TFDS prepared it, read without TensorFlow.

Examples are read from array_record files by random access; their pictures stay as they
were encoded, and Pillow decodes them.
"""

import dataclasses
import functools
import hashlib
import os
import string
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from jaxalign.data.examples import DatasetInfo
from jaxalign.data.own_examples import CLASS_TEMPLATE, OwnDataset, readable_class
from jaxalign.data.pictures import UnreadablePictureError, decode_picture
from jaxalign.data.preparing import explain_damage
from jaxalign.errors import ArgumentError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow_datasets as tfds

FORMAT = "array_record"
_CAPTION_FEATURES = ("caption", "text")


@dataclasses.dataclass(frozen=True)
class TfdsFolder:
    """Contents of a prepared folder.

    Attributes:
      path: the folder.
      shards: files and their lengths, of each split.
      features: their kinds by name.
      label_names: of the feature `label`, None where it has none.
    """

    path: Path
    shards: Mapping[str, tuple[tuple[Path, int], ...]]
    features: Mapping[str, Any]
    label_names: tuple[str, ...] | None

    def is_text(self, name: str) -> bool:
        """Whether there is a text of this name."""
        return isinstance(self.features.get(name), tfds.features.Text)


class TfdsSource:
    """Examples of one prepared split.

    TFDS's readers open their files on first use, in each process, and take several
    threads.
    """

    def __init__(
        self,
        folder: TfdsFolder,
        split: str,
        *,
        id_format: str = "",
        caption_feature: str = "",
        class_captions: Sequence[str] = (),
    ):
        """Open a split.

        Args:
          folder: where it is prepared.
          split: one of `folder.shards`.
          id_format: of an example's id, from its features and `class_name`; "" for the
            split and the example's number.
          caption_feature: where captions are; "" if the class decides them.
          class_captions: the classes' captions.

        Raises:
          ValueError: if a file is missing or damaged.
        """
        self._split = split
        self._id_format = id_format
        parsed = string.Formatter().parse(id_format)
        named = [name for _, name, _, _ in parsed if name and name != "class_name"]
        self._id_features = named
        missing = [name for name in named if not folder.is_text(name)]
        if missing:
            raise ArgumentError(
                repr(str(folder.path)),
                f"a text feature {missing[0]!r} for the ids",
                ", ".join(folder.features),
            )
        self._caption_feature = caption_feature
        self._class_captions = tuple(class_captions)
        self._label_names = folder.label_names
        self.fingerprint = _fingerprint(folder, split, repr(self._settings()))
        with explain_damage(folder.path):
            for file, length in folder.shards[split]:
                _check_shard(file, length)
            self._records = _open_records(folder.path, split)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        row = range(len(self))[index]
        number = f"{self._split}/{row:06d}"
        try:
            record = self._records[row]
        except (ImportError, OSError, MemoryError):
            raise
        except Exception as error:
            reason = f"its record is damaged ({type(error).__name__}: {error})"
            raise UnreadablePictureError(number, reason) from error
        label = int(record.get("label", -1))
        identifier = self._identify(record, label) if self._id_format else number
        if self._caption_feature:
            text = _as_text(record[self._caption_feature])
        else:
            text = self._class_captions[label] if label >= 0 else ""
        image = decode_picture(bytes(record["image"]), id=identifier)
        return {"image": image, "id": identifier, "text": text, "label": label}

    def _identify(self, record: Mapping[str, Any], label: int) -> str:
        values = {name: _as_text(record[name]) for name in self._id_features}
        if self._label_names is not None and label >= 0:
            values["class_name"] = self._label_names[label]
        return self._id_format.format_map(values)

    def _settings(self) -> tuple:
        return self._id_format, self._caption_feature, self._class_captions


def read_tfds_folder(path: Path) -> TfdsFolder:
    """Read the contents of a prepared folder.

    Raises:
      ValueError: if it is damaged, or holds no array_record files or no pictures.
    """
    with explain_damage(path):
        info = _builder(path).info
        formats = sorted(found.value for found in info.available_file_formats())
        if FORMAT in formats:
            info = _builder(path, FORMAT).info
        features: dict[str, Any] = dict(cast(Any, info.features).items())
        shards = {
            name: tuple(
                (Path(file), length)
                for file, length in zip(
                    map(os.fspath, split.filepaths), split.shard_lengths, strict=True
                )
            )
            for name, split in info.splits.items()
        }
    if FORMAT not in formats:
        raise ArgumentError(
            repr(str(path)),
            "array_record files",
            ", ".join(formats),
            "prepare the data set anew in another `data_dir`: jaxalign does so for "
            "the names of its catalog, TFDS by tfds.builder(name, data_dir=..., "
            f"file_format={FORMAT!r}).download_and_prepare()",
        )
    if not isinstance(features.get("image"), tfds.features.Image):
        raise ArgumentError(repr(str(path)), "a feature `image`", ", ".join(features))
    label = features.get("label")
    is_class = isinstance(label, tfds.features.ClassLabel)
    return TfdsFolder(path, shards, features, tuple(label.names) if is_class else None)


def open_tfds_folder(name: str, path: Path) -> OwnDataset:
    """Open a prepared folder of the user's own.

    Captions are its text feature `caption` or `text`, or else the names of the classes
    of `label`. A text feature `id` gives the ids and must be unique; without it they
    are the split and the example's number.

    Args:
      name: the path that the user gave.
      path: the folder with `dataset_info.json`.

    Raises:
      ValueError: see `read_tfds_folder`; also if there are neither captions nor labels.
    """
    folder = read_tfds_folder(path)
    caption_feature = next(filter(folder.is_text, _CAPTION_FEATURES), "")
    if not caption_feature and folder.label_names is None:
        expected = "a text feature `caption` or `text`, or a class label `label`"
        raise ArgumentError(repr(str(path)), expected, ", ".join(folder.features))
    class_names = folder.label_names or ()
    captions = tuple(map(readable_class, class_names))
    info = DatasetInfo(
        name=name,
        splits=tuple(folder.shards),
        class_names=class_names,
        category_names=(),
        class_prompts=tuple((CLASS_TEMPLATE.format(c),) for c in captions),
        credit="",
        license="",
        class_captions=None if caption_feature else captions,
    )
    load = functools.partial(
        TfdsSource,
        folder,
        id_format="{id}" if folder.is_text("id") else "",
        caption_feature=caption_feature,
        class_captions=captions,
    )
    return OwnDataset(info, load)


def _builder(path: Path, file_format: str | None = None) -> tfds.core.DatasetBuilder:
    return tfds.builder_from_directory(os.fspath(path), file_format=file_format)


def _check_shard(file: Path, length: int) -> None:
    """Raise if a file has lost records: one that is cut off has lost its index."""
    from array_record.python import array_record_module  # pyright: ignore

    reader = array_record_module.ArrayRecordReader(os.fspath(file))
    count = reader.num_records()
    reader.close()
    if count != length:
        raise ValueError(f"{file.name} holds {count} records instead of {length}")


def _open_records(path: Path, split: str) -> Any:
    # Any, for the decorator of `as_data_source` hides its signature.
    builder: Any = _builder(path, FORMAT)
    pictures = {
        name: tfds.decode.SkipDecoding()
        for name, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    return builder.as_data_source(split, decoders=pictures)


def _fingerprint(folder: TfdsFolder, split: str, settings: str) -> str:
    """Digest the descriptions and the files' sizes, not the gigabytes in them."""
    digest = hashlib.sha256(f"{split} {settings}".encode())
    descriptions = [folder.path / "features.json", *folder.path.glob("*.labels.txt")]
    for file in (folder.path / "dataset_info.json", *sorted(descriptions)):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    with explain_damage(folder.path):
        for file, length in folder.shards[split]:
            digest.update(f"{file.name} {length} {file.stat().st_size}".encode())
    return digest.hexdigest()


def _as_text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
