# SPDX-License-Identifier: Apache-2.0
"""The user's own data: what a path holds, and opening it.

| path | what it is |
|---|---|
| a folder with one of `CAPTION_FILES`; a .csv or .jsonl | pictures with captions |
| a folder of *.tar; one .tar; a pattern of them | WebDataset |
| a folder with `dataset_info.json` and `features.json` | prepared by TFDS |
"""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from jaxalign.data.own_examples import OwnDataset
from jaxalign.data.picture_folder import CAPTION_FILES, open_picture_folder
from jaxalign.data.webdataset import expand_pattern, open_tars

_LISTS = (".csv", ".jsonl")
_TAR = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz)$", re.IGNORECASE)
_TFDS_FILES = ("dataset_info.json", "features.json")


def open_own_data(name: str) -> OwnDataset | None:
    """Open the data at a path; what was read is kept while its files stay the same.

    Args:
      name: see the module.

    Returns:
      The data set, None if there is nothing at the path.

    Raises:
      ValueError: if there is something else at the path; see
        `open_picture_folder`, `open_tars` and `tfds_folder.open_tfds_folder`.
    """
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        return _open_folder(name, path)
    if path.is_file() and path.suffix.lower() in _LISTS:
        return _open_list(name, path)
    if _TAR.search(name):
        return _open_tars(name, [path] if path.is_file() else _expand(name))
    if path.exists():
        raise ValueError(
            f"`load_dataset({name!r})`: expected a folder, a .csv, a .jsonl or a .tar "
            "file, got another file."
        )
    return None


def _open_folder(name: str, folder: Path) -> OwnDataset:
    lists = [file for file in CAPTION_FILES if (folder / file).is_file()]
    if len(lists) > 1:
        raise ValueError(
            f"`load_dataset({name!r})`: expected one list of captions in the folder, "
            f"got {' and '.join(lists)}; give the path of the one to read."
        )
    if lists:
        return _open_list(name, folder / lists[0])
    tars = sorted(folder.glob("*.tar"))
    if tars:
        return _open_tars(name, tars)
    if all((folder / file).is_file() for file in _TFDS_FILES):
        # TFDS takes a second to import.
        from jaxalign.data import tfds_folder

        return tfds_folder.open_tfds_folder(name, folder)
    below = [str(found.parent) for found in sorted(folder.glob("*/dataset_info.json"))]
    raise ValueError(
        f"`load_dataset({name!r})`: expected a folder with {', '.join(CAPTION_FILES)} "
        f"(captions of pictures), *.tar (WebDataset) or {' and '.join(_TFDS_FILES)} "
        f"(TFDS), got none of them; "
        + (
            f"did you mean {below[-1]!r}?"
            if below
            else "give the path of such a folder."
        )
    )


def _expand(name: str) -> list[Path]:
    paths = [Path(path) for path in expand_pattern(os.path.expanduser(name))]
    missing = [str(path) for path in paths if not path.is_file()]
    if not paths:
        raise ValueError(f"`load_dataset({name!r})`: no tar file has such a name.")
    if missing:
        raise ValueError(
            f"`load_dataset({name!r})`: {len(missing)} of {len(paths)} tar files do "
            f"not exist: {', '.join(missing[:5])}{', ...' if missing[5:] else ''}."
        )
    return paths


def _open_list(name: str, path: Path) -> OwnDataset:
    return _cached_list(name, path, _marks([path]))


def _open_tars(name: str, paths: Sequence[Path]) -> OwnDataset:
    return _cached_tars(name, tuple(paths), _marks(paths))


def _marks(paths: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """Return what changes when the files do."""
    stats = [path.stat() for path in paths]
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)


# A data set is asked for what is known of it, then for each of its splits: it must not
# be read anew each time.
@functools.lru_cache(maxsize=2)
def _cached_list(name: str, path: Path, marks: tuple) -> OwnDataset:
    del marks
    return open_picture_folder(name, path)


@functools.lru_cache(maxsize=2)
def _cached_tars(name: str, paths: tuple[Path, ...], marks: tuple) -> OwnDataset:
    del marks
    return open_tars(name, paths)
