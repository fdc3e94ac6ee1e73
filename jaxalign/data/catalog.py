# SPDX-License-Identifier: Apache-2.0
"""The named data sets and the user's own: splits, class names, prompts, opening them.

`load_dataset` gives a random-access source of examples, each a dict with the keys of
`examples.py`. Those of OpenMoji have more:

| key | value |
|---|---|
| `emoji`, `name`, `keywords` | file stem, CLDR name, keywords joined by ", " |
| `category` | int, an index into `DatasetInfo.category_names` |
| `subgroup` | the label's class name |
| `concept` | str, alike for all variants of one emoji |
| `rendering`, `style`, `background` | str: how the picture was drawn |
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxalign.data import openmoji_table, prompts
from jaxalign.data.examples import CataloguedSource, InMemorySource
from jaxalign.data.examples import DatasetInfo as DatasetInfo
from jaxalign.data.examples import Source as Source
from jaxalign.data.pictures import decode_picture
from jaxalign.data.tfds_sets import TFDS_SETS


def default_data_dir() -> Path:
    """Return the folder for prepared data sets within the user's cache folder.

    Raises:
      ValueError: if the user has neither.
    """
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(cache) if cache else Path.home() / ".cache"
    except RuntimeError as error:  # no HOME, and a user without an entry for one
        raise ValueError(
            "`data_dir=None`: expected a home folder for the user's cache, got none; "
            "name a folder for prepared data sets as data_dir (--data_dir), or set "
            "HOME or XDG_CACHE_HOME."
        ) from error
    return folder / "jaxalign" / "datasets"


def load_dataset(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike | None = None,
    in_memory: bool = False,
) -> CataloguedSource:
    """Open one split of a data set, preparing a named one on first use.

    Args:
      name: a name of the catalog: "openmoji" ("openmoji/tiny" for about 200 of its
        emoji), "oxford_iiit_pet", "cifar100", "caltech101", "dtd" or "stl10"; or the
        path of your own data, see `own_data.py`: a folder with a CSV or JSONL file of
        captions and labels, WebDataset tar files, or a folder that TFDS has prepared.
      split: one of `dataset_info(name).splits`.
      data_dir: where prepared data sets live; in the user's cache folder by default.
        Not used for a path.
      in_memory: decode every picture now and keep it, for training over many epochs
        (12 KB a picture of OpenMoji, 100 MB for a training split).

    Returns:
      A random-access source of example dicts, in a fixed order. Where a picture cannot
      be read, its example raises `pictures.UnreadablePictureError`.

    Raises:
      ValueError: for an unknown name or split, with those that exist; for a folder that
        cannot be written; for data of the user's own that breaks its format.
      ModuleNotFoundError: if preparing needs packages that are not installed.
    """
    dataset = _find(name, "load_dataset")
    splits = dataset.info().splits
    if split not in splits:
        raise ValueError(
            f"`load_dataset({name!r}, split={split!r})`: no such split; "
            f"{name} has {', '.join(splits)}."
        )
    if not data_dir and name in _CATALOG:  # a path needs no folder, nor a home
        data_dir = default_data_dir()
    source = dataset.load(split, Path(data_dir or ""))
    return InMemorySource(source) if in_memory else source


def dataset_info(name: str) -> DatasetInfo:
    """Return what is known of a data set; nothing is prepared.

    Args:
      name: as for `load_dataset`. Of the user's own data, its list or the headers of
        its tar files are read.

    Raises:
      ValueError: for an unknown name, with those that exist; for data of the user's own
        that breaks its format.
    """
    return _find(name, "dataset_info").info()


def split_classes(
    labels: Int[np.ndarray, " n"] | Sequence[int], *, seed: int, fraction: float = 0.5
) -> tuple[Int[np.ndarray, " anchors"], Int[np.ndarray, " heldout"]]:
    """Split the classes that occur into anchor classes and held-out classes.

    Args:
      labels: one label a row, (n,) ints; only which values occur matters.
      seed: other seeds give other splits.
      fraction: share of the classes that become anchors, in (0, 1).

    Returns:
      Two sorted, disjoint int arrays of classes; both hold at least one.

    Raises:
      ValueError: if there are fewer than two classes, or for a fraction outside (0, 1).
    """
    classes = np.unique(np.asarray(labels))
    if len(classes) < 2 or not 0.0 < fraction < 1.0:
        raise ValueError(
            "`split_classes(labels=..., fraction=...)` expected at least two classes "
            f"and a fraction in (0, 1), got {len(classes)} and {fraction}; a split "
            "needs a class on either side."
        )
    shuffled = np.random.default_rng(seed).permutation(classes)
    count = min(max(round(fraction * len(classes)), 1), len(classes) - 1)
    return np.sort(shuffled[:count]), np.sort(shuffled[count:])


@dataclasses.dataclass(frozen=True)
class _Entry:
    info: Callable[[], DatasetInfo]
    load: Callable[[str, Path], CataloguedSource]


def _find(name: str, caller: str) -> _Entry:
    """Look a name up in the catalog, then on disk."""
    if name in _CATALOG:
        return _CATALOG[name]
    # It loads Arrow, which the named data sets do without.
    from jaxalign.data import own_data

    found = own_data.open_own_data(name)
    if found is None:
        raise ValueError(
            f"`{caller}(name={name!r})`: no such data set; jaxalign knows "
            f"{', '.join(_CATALOG)}. Your own is named by its path, and there is no "
            "such file or folder."
        )
    return _Entry(lambda: found.info, lambda split, data_dir: found.load(split))


class _OpenMojiSource:
    """Examples of one OpenMoji split, decoded on access."""

    def __init__(self, records: Any, class_names: Sequence[str], fingerprint: str):
        self._records = records
        self._class_names = class_names
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        # Iteration by index ends at IndexError, which the records do not raise.
        record: Mapping[str, Any] = self._records[range(len(self))[index]]
        example = {
            key: value.decode() if isinstance(value, bytes) else value
            for key, value in record.items()
            if key not in ("image", "subgroup", "category")
        }
        image = decode_picture(record["image"], id=example["id"])
        example["image"] = np.asarray(image.convert("RGB"))
        example["text"] = prompts.caption(example["name"])
        example["label"] = int(record["subgroup"])
        example["category"] = int(record["category"])
        example["subgroup"] = self._class_names[example["label"]]
        return example


def _openmoji(name: str, *, tiny: bool) -> _Entry:
    """Catalog OpenMoji; its builder, which loads TFDS, is imported on use."""

    def info() -> DatasetInfo:
        classes = openmoji_table.subgroups()
        return DatasetInfo(
            name=name,
            splits=tuple(openmoji_table.SPLITS),
            class_names=classes,
            category_names=openmoji_table.categories(),
            class_prompts=tuple(map(tuple, prompts.class_prompts(classes))),
            credit=openmoji_table.CREDIT,
            license=openmoji_table.LICENSE,
        )

    def load(split: str, data_dir: Path) -> CataloguedSource:
        from jaxalign.data import openmoji

        records = openmoji.open_split(data_dir, split, tiny=tiny)
        version = f"{name} {split} {openmoji.OpenMoji.VERSION} {prompts.caption('')}"
        digest = hashlib.sha256(version.encode()).hexdigest()
        return _OpenMojiSource(records, openmoji_table.subgroups(), digest)

    return _Entry(info, load)


_CATALOG = {
    "openmoji": _openmoji("openmoji", tiny=False),
    "openmoji/tiny": _openmoji("openmoji/tiny", tiny=True),
    **{name: _Entry(found.info, found.load) for name, found in TFDS_SETS.items()},
}
