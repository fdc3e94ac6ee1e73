# SPDX-License-Identifier: Apache-2.0
"""The named data sets and the user's own: splits, class names, prompts, opening them.

`load_dataset` gives a random-access source of examples, each a dict with the keys of
`examples.py`; those of OpenMoji have more, see `openmoji_set.py`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from jaxalign.data.examples import CataloguedSource, InMemorySource
from jaxalign.data.examples import DatasetInfo as DatasetInfo
from jaxalign.data.examples import Source as Source
from jaxalign.data.openmoji_set import OPENMOJI_SETS
from jaxalign.data.tfds_sets import TFDS_SETS
from jaxalign.errors import ArgumentError


def default_data_dir() -> Path:
    """Return the folder for prepared data sets within the user's cache folder.

    Raises:
      ValueError: if the user has neither.
    """
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(cache) if cache else Path.home() / ".cache"
    except RuntimeError as error:  # no HOME, and a user without an entry for one
        raise ArgumentError(
            "data_dir=None",
            "a home folder for the user's cache",
            "none",
            "name a folder for prepared data sets as data_dir (--data_dir), or set "
            "HOME or XDG_CACHE_HOME",
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
        raise ArgumentError(
            f"load_dataset({name!r}, split={split!r})", f"one of {', '.join(splits)}"
        )
    if not data_dir and name in _CATALOG:  # a path needs no folder, nor a home
        data_dir = default_data_dir()
    source = dataset.load(split, Path(data_dir or ""))
    return InMemorySource(source) if in_memory else source


def dataset_info(name: str) -> DatasetInfo:
    """Return the description of a data set, without preparing it.

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
        raise ArgumentError(
            "split_classes(labels=..., fraction=...)",
            "at least two classes and a fraction in (0, 1)",
            f"{len(classes)} and {fraction}",
            "a split needs a class on either side",
        )
    shuffled = np.random.default_rng(seed).permutation(classes)
    count = min(max(round(fraction * len(classes)), 1), len(classes) - 1)
    return np.sort(shuffled[:count]), np.sort(shuffled[count:])


@runtime_checkable
class _Entry(Protocol):
    def info(self) -> DatasetInfo: ...

    def load(self, split: str, data_dir: Path, /) -> CataloguedSource: ...


def _find(name: str, caller: str) -> _Entry:
    """Look a name up in the catalog, then on disk."""
    if name in _CATALOG:
        return _CATALOG[name]
    # It loads Arrow, which the named data sets do without.
    from jaxalign.data import own_data

    found = own_data.open_own_data(name)
    if found is None:
        expected = f"one of {', '.join(_CATALOG)}, or the path of your own data"
        remedy = "there is no file or folder of that name"
        raise ArgumentError(f"{caller}(name={name!r})", expected, remedy=remedy)
    return found


_CATALOG: dict[str, _Entry] = {**OPENMOJI_SETS, **TFDS_SETS}
