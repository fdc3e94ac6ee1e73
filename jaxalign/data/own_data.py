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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxalign.data.own_examples import OwnDataset
from jaxalign.data.picture_folder import CAPTION_FILES, open_picture_folder
from jaxalign.data.webdataset import expand_pattern, open_tars
from jaxalign.errors import ArgumentError, shorten

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
        expected = "a folder, a .csv, a .jsonl or a .tar file"
        raise ArgumentError(f"load_dataset({name!r})", expected, "another file")
    return None


def _open_folder(name: str, folder: Path) -> OwnDataset:
    lists = [file for file in CAPTION_FILES if (folder / file).is_file()]
    if len(lists) > 1:
        raise ArgumentError(
            f"load_dataset({name!r})",
            "one list of captions in the folder",
            " and ".join(lists),
            "give the path of the one to read",
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
    raise ArgumentError(
        f"load_dataset({name!r})",
        f"a folder with {', '.join(CAPTION_FILES)} (captions of pictures), *.tar "
        f"(WebDataset) or {' and '.join(_TFDS_FILES)} (TFDS)",
        "none of them",
        f"pass {below[-1]!r}, perhaps" if below else "give the path of such a folder",
    )


def _expand(name: str) -> list[Path]:
    paths = [Path(path) for path in expand_pattern(os.path.expanduser(name))]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        lost = f"{len(missing)} missing of {len(paths)}: {shorten(missing, most=5)}"
        raise ArgumentError(
            f"load_dataset({name!r})", "tar files that exist", lost if paths else "none"
        )
    return paths


def _open_list(name: str, path: Path) -> OwnDataset:
    return _open_once(open_picture_folder, name, path, _marks([path]))


def _open_tars(name: str, paths: Sequence[Path]) -> OwnDataset:
    return _open_once(open_tars, name, tuple(paths), _marks(paths))


def _marks(paths: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """Return what changes when the files do."""
    stats = [path.stat() for path in paths]
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)


# A data set is asked for what is known of it, then for each of its splits: it must not
# be read anew each time.
@functools.lru_cache(maxsize=4)
def _open_once(
    open_files: Callable[[str, Any], OwnDataset], name: str, files: Any, marks: tuple
) -> OwnDataset:
    del marks
    return open_files(name, files)
