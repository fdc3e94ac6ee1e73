# SPDX-License-Identifier: Apache-2.0
"""Notes of processes that ended with an error, for those that wait for their parts."""

import contextlib
from pathlib import Path

from jaxalign.errors import UserError
from jaxalign.store.layout import UNFINISHED

Failures = dict[int, tuple[int, str]]
"""By process: when its note was written (the file's own clock), and the error."""


class OtherProcessError(UserError, OSError):
    """Another process of this run ended with an error, and its parts are not written.

    What was written is kept.
    """


def note_failure(folder: Path, process_index: int, error: BaseException) -> None:
    """Leave a note in an unfinished store, if the disk allows it."""
    with contextlib.suppress(OSError):
        _path(folder, process_index).write_text(f"{type(error).__name__}: {error}")


def clear_failure(folder: Path, process_index: int) -> None:
    """Delete the note of an earlier run's process of this number."""
    with contextlib.suppress(OSError):
        _path(folder, process_index).unlink(missing_ok=True)


def read_failures(folder: Path) -> Failures:
    """Read all notes of an unfinished store."""
    found = {}
    for path in (folder / UNFINISHED).glob("failed-*.txt"):
        with contextlib.suppress(OSError, ValueError):
            index = int(path.stem.removeprefix("failed-"))
            found[index] = (path.stat().st_mtime_ns, path.read_text())
    return found


def _path(folder: Path, process_index: int) -> Path:
    return folder / UNFINISHED / f"failed-{process_index}.txt"
