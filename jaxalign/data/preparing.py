# SPDX-License-Identifier: Apache-2.0
"""Folders of data sets that are prepared on first use, by one process at a time."""

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxalign.errors import ArgumentError
from jaxalign.locks import locked

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def prepare_alone(root: Path, name: str) -> Iterator[None]:
    """Hold the lock under which a data set is prepared; make its root if missing.

    Args:
      root: folder of data sets.
      name: of the data set.

    Raises:
      ValueError: if the root cannot be made or written.
    """
    lock = root / f".{name}.lock"
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        got = f"{str(root)!r} ({error.strerror})"
        raise ArgumentError(
            "data_dir", "a folder that can be written", got, "name another"
        ) from error
    notice = f"Another process prepares {name}; waiting for it."
    with locked(lock, notice=notice):
        yield


def remove_unfinished(folder: Path, pattern: str = "incomplete.*") -> None:
    """Remove what a killed process left in a folder; the caller holds the lock."""
    for leftover in folder.glob(pattern):
        _log.info("Removing the unfinished %s.", leftover)
        shutil.rmtree(leftover)


@contextlib.contextmanager
def explain_damage(folder: Path) -> Iterator[None]:
    """Turn whatever TFDS raises over a damaged data set into one error.

    Raises:
      ValueError: if the folder exists; else the error is not about its contents.
    """
    try:
        yield
    except ImportError:  # of a package that is missing, not of the files
        raise
    except Exception as error:
        if not folder.exists():
            raise
        expected = "a data set that TFDS has prepared"
        got = f"a damaged one ({type(error).__name__}: {error})"
        remedy = "delete the folder, and it is prepared again"
        raise ArgumentError(repr(str(folder)), expected, got, remedy) from error
