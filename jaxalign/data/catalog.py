# SPDX-License-Identifier: Apache-2.0
"""The named data sets: splits, class names, prompts, and where they come from.

`load_dataset` gives a random-access source of examples, each a dict:

| key | value |
|---|---|
| `image` | uint8 (height, width, 3) |
| `id` | unique in the split, "1F600/plain" |
| `emoji`, `name`, `keywords` | file stem, CLDR name, keywords joined by ", " |
| `label`, `category` | int, indices into `DatasetInfo.class_names`, `.category_names` |
| `subgroup` | the label's class name |
| `concept` | str, alike for all variants of one emoji |
| `rendering`, `style`, `background` | str: how the picture was drawn |
"""

import dataclasses
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int
from PIL import Image

from jaxalign.data import openmoji_table, prompts


@runtime_checkable
class Source(Protocol):
    """Random access to examples, each a dict; what Grain reads from."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set before it is read.

    Attributes:
      name: its name in the catalog.
      splits: the names that `load_dataset` takes.
      class_names: the labels' meaning, in order.
      category_names: the coarser categories' meaning, in order.
      class_prompts: an ensemble of texts a class, in the labels' order.
      credit: whom a report must credit.
      license: of pictures and texts.
    """

    name: str
    splits: tuple[str, ...]
    class_names: tuple[str, ...]
    category_names: tuple[str, ...]
    class_prompts: tuple[tuple[str, ...], ...]
    credit: str
    license: str


def default_data_dir() -> Path:
    """Return the user's cache folder for prepared data sets."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "jaxalign" / "datasets"


def load_dataset(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike | None = None,
    in_memory: bool = False,
) -> Source:
    """Open one split of a named data set, preparing it on first use.

    Args:
      name: "openmoji", or "openmoji/tiny" for about 200 of its emoji.
      split: one of `dataset_info(name).splits`.
      data_dir: where prepared data sets live; the user's cache folder by default.
      in_memory: decode every picture now and keep it, for training over many epochs
        (12 KB a picture of OpenMoji, 100 MB for a training split).

    Returns:
      A random-access source of example dicts, in a fixed order.

    Raises:
      ValueError: for an unknown name or split, with those that exist; for a folder that
        cannot be written.
      ModuleNotFoundError: if preparing needs packages that are not installed.
    """
    info = dataset_info(name)
    if split not in info.splits:
        raise ValueError(
            f"`load_dataset({name!r}, split={split!r})`: no such split; "
            f"{name} has {', '.join(info.splits)}."
        )
    source = _CATALOG[name].load(split, Path(data_dir or default_data_dir()))
    return [source[i] for i in range(len(source))] if in_memory else source


def dataset_info(name: str) -> DatasetInfo:
    """Return what is known of a named data set; nothing is prepared.

    Raises:
      ValueError: for an unknown name, with those that exist.
    """
    if name not in _CATALOG:
        raise ValueError(
            f"`dataset_info(name={name!r})`: no such data set; "
            f"jaxalign knows {', '.join(_CATALOG)}."
        )
    return _CATALOG[name].info()


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
    load: Callable[[str, Path], Source]


class _OpenMojiSource:
    """Examples of one OpenMoji split, decoded on access."""

    def __init__(self, records: Any, class_names: Sequence[str]):
        self._records = records
        self._class_names = class_names

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
        with Image.open(io.BytesIO(record["image"])) as image:
            example["image"] = np.asarray(image.convert("RGB"))
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

    def load(split: str, data_dir: Path) -> Source:
        from jaxalign.data import openmoji

        records = openmoji.open_split(data_dir, split, tiny=tiny)
        return _OpenMojiSource(records, openmoji_table.subgroups())

    return _Entry(info, load)


_CATALOG = {
    "openmoji": _openmoji("openmoji", tiny=False),
    "openmoji/tiny": _openmoji("openmoji/tiny", tiny=True),
}
