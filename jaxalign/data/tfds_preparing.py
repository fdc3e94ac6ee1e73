# SPDX-License-Identifier: Apache-2.0
"""Preparing a data set of TFDS: the one step that needs TensorFlow, once."""

import contextlib
import importlib
import os
import sys
import warnings
from pathlib import Path

from jaxalign.data.preparing import prepare_alone, remove_unfinished
from jaxalign.data.tfds_folder import FORMAT
from jaxalign.errors import ArgumentError, MissingModuleError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow_datasets as tfds


def prepared_folder(name: str, data_dir: str | os.PathLike) -> Path:
    """Return the folder of a prepared data set; prepare it first where it is missing.

    Two processes may call this at once: the second waits for the first. A process that
    is killed leaves an unfinished folder, which the next one clears away; what it had
    downloaded is used again.

    Args:
      name: of the data set in TFDS; one without configs.
      data_dir: folder of TFDS data sets; made if missing.

    Raises:
      ModuleNotFoundError: if it must be prepared and TensorFlow is not installed.
      ValueError: if the folder cannot be written, or downloading or preparing fails.
    """
    root = Path(os.path.expanduser(data_dir))
    found = _newest_version(root / name)
    if found is not None:
        return found
    _check_tensorflow(name, root)
    with prepare_alone(root, name):
        found = _newest_version(root / name)  # another process may have prepared it
        return found or _prepare(name, root)


def _newest_version(folder: Path) -> Path | None:
    """Return the newest version; TFDS gives a folder its name when it is complete."""
    versions = [
        path
        for path in folder.glob("*.*.*")
        if all(part.isdigit() for part in path.name.split("."))
    ]
    if not versions:
        return None
    return max(versions, key=lambda path: tuple(map(int, path.name.split("."))))


def _check_tensorflow(name: str, root: Path) -> None:
    try:
        importlib.import_module("tensorflow")
    except ImportError as error:
        raise MissingModuleError(
            f"Preparing the data set `{name}` needs TensorFlow, once: pip install "
            f"'jaxalign[tfds]'; looked for a prepared one in {str(root / name)!r}. One "
            "that TFDS has prepared elsewhere in array_record files is read without: "
            "name its folder as `data_dir`, ~/tensorflow_datasets for example.",
            name="tensorflow",
        ) from error


def _prepare(name: str, root: Path) -> Path:
    remove_unfinished(root / name)
    downloads = root / "downloads"
    try:
        builder = tfds.builder(name, data_dir=os.fspath(root), file_format=FORMAT)
        # It prints where it is; standard output is for results.
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare(download_dir=os.fspath(downloads))
    except ImportError as error:
        raise MissingModuleError(
            f"Preparing the data set `{name}` needs the package {error.name!r}; "
            "pip install 'jaxalign[tfds]'",
            name=error.name,
        ) from error
    except Exception as error:
        expected = f"TFDS to download and prepare it in {str(root)!r}"
        got = f"{type(error).__name__}: {error}"
        remedy = f"start again: what is in {str(downloads)!r} is not downloaded again"
        raise ArgumentError(f"load_dataset({name!r})", expected, got, remedy) from error
    return Path(os.fspath(builder.data_dir))
