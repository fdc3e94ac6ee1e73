# SPDX-License-Identifier: Apache-2.0
"""The unfinished output of a job: a hidden folder beside the target, until it is whole.

    .{target}.unfinished/   output   the file or folder that will be renamed
                            job.json which job, and how many of its rows are safe
                            lock     held by whoever writes

Rows are brought to the disk before the record counts them, and the target's name
appears when all are there. So the same job, started again after a kill at any moment,
goes on from the record and ends in the same bytes.
"""

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np

from jaxalign.atomic_files import sync_folder, write_atomically
from jaxalign.errors import ArgumentError
from jaxalign.modality import Modality


class Output(NamedTuple):
    """What is to be written.

    Attributes:
      widths: of the rows, by modality.
      dtypes: of the numbers, by modality, little-endian.
      key: of the array, of formats that have one.
      space: fingerprint of the rows' embedding space, or None.
    """

    widths: dict[Modality, int]
    dtypes: dict[Modality, np.dtype]
    key: str | None
    space: str | None


class Progress(NamedTuple):
    """What of a job is safe on the disk.

    Attributes:
      rows: how many rows.
      nan_rows: by modality, how many of them are NaN.
      whole: whether the output lacks nothing but its name.
    """

    rows: int = 0
    nan_rows: dict[str, int] = {}
    whole: bool = False


class Unfinished:
    """The hidden folder of one job, locked while this is open.

    Attributes:
      target: path of the output.
      output: its path until it is whole.
      progress: what an earlier run of the same job left.
    """

    def __init__(self, where: str, target: Path, job: Any):
        """Lock the target, and find out what an earlier run left.

        Args:
          where: the call, for errors.
          target: path of the output.
          job: JSON values that determine the bytes of the output.

        Raises:
          ValueError: if another process writes the same target.
        """
        self.target = target
        self._folder = _folder_of(target)
        self.output = self._folder / "output"
        text = json.dumps(job, sort_keys=True)
        self._job = hashlib.sha256(text.encode()).hexdigest()
        self._lock = filelock.FileLock(self._folder / "lock", timeout=0)
        while True:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except filelock.Timeout as error:
                raise ArgumentError(
                    where,
                    f"no other writer of {str(target)!r}",
                    "another run that is writing it",
                    "wait for it or end it, or name another output",
                ) from error
            except FileNotFoundError:
                # Another process ended just now, and its folder is gone.
                continue
            if (self._folder / "lock").exists():
                break
            self._lock.release()
        self.progress = self._read()

    def save(self, progress: Progress) -> None:
        """Record what is safe; the caller has brought it to the disk."""
        document = {"job": self._job, **progress._asdict()}
        write_atomically(self._folder / "job.json", json.dumps(document))

    def publish(self) -> None:
        """Give the output its name, in place of an older one; delete the rest."""
        older = self._folder / "older"
        if self.output.exists():
            if self.output.is_dir() and self.target.exists():
                # There already if a run was killed between the two names.
                shutil.rmtree(older, ignore_errors=True)
                os.rename(self.target, older)
            os.replace(self.output, self.target)
            sync_folder(self.target.parent)
        self.discard()

    def discard(self) -> None:
        """Delete the folder: nothing is kept of the job but what has its name."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.release()

    def close(self) -> None:
        """Unlock; what is safe stays, for the next run."""
        self._lock.release()

    def restart(self) -> None:
        """Forget what an earlier run left."""
        (self._folder / "job.json").unlink(missing_ok=True)
        for path in self._folder.iterdir():
            if path.is_dir() and path.name != "older":
                shutil.rmtree(path)
            elif path.name not in ("lock", "older"):
                path.unlink()
        self.progress = Progress()

    def _read(self) -> Progress:
        """Read the record; of another job nothing is kept."""
        document: Any = None
        with contextlib.suppress(FileNotFoundError, ValueError):
            document = json.loads((self._folder / "job.json").read_bytes())
        if isinstance(document, dict) and document.pop("job", None) == self._job:
            progress = Progress(**document)
            there = self.output.exists() or (progress.whole and self.target.exists())
            if there:
                return progress
        self.restart()
        return Progress()


def is_whole(target: Path) -> bool:
    """Whether a job of this target lacks nothing but the name, and had it perhaps."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        document = json.loads((_folder_of(target) / "job.json").read_bytes())
        return bool(document.get("whole"))
    return False


def _folder_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.unfinished")
