# SPDX-License-Identifier: Apache-2.0
"""A pass on disk: its moments and its place in the data, to go on after a kill.

Each process keeps its own: until a pass ends, processes have nothing to tell each
other, so they need not stop at the same row either.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from jaxalign.atomic_files import write_atomically
from jaxalign.errors import ArgumentError, check_count
from jaxalign.moments.statistics import Moments

VERSION = 2
_SUFFIX, _KEPT = ".safetensors", 2


class PassCheckpoints:
    """Keeps a pass of `accumulate_moments` in a folder.

    A checkpoint is one `.safetensors` file: the moments, and in its metadata the place
    in the data as JSON. The last two stay.

    A run that is killed anywhere and started again with the same arguments takes up the
    last checkpoint, and ends with the same bits as a run that was never killed.

    >>> import tempfile
    >>> import jaxalign as ja
    >>> rows = np.eye(8, 4, dtype=np.float32)
    >>> with PassCheckpoints(tempfile.mkdtemp(), every=1) as checkpoints:
    ...     batches = ja.anchors.array_pairs(rows, rows, batch_size=2)
    ...     moments = ja.accumulate_moments(batches, checkpoints=checkpoints)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every: int = 64,
        details: Mapping[str, Any] = {},
    ):
        """Open the checkpoints of this process.

        Args:
          folder: made if needed; each process of a run has a folder of its own in it.
          every: batches between checkpoints, at least 1.
          details: JSON values that say what is accumulated: data, models, batch size. A
            run with other details is another pass, and is refused.

        Raises:
          ValueError: if `every` is below 1, or the folder cannot be made.
        """
        check_count("PassCheckpoints", "every", every)
        index, count = jax.process_index(), jax.process_count()
        self._folder = Path(os.path.abspath(folder)) / f"process_{index}_of_{count}"
        self._every, self._details = every, dict(details)
        self._settings: dict[str, Any] = {}
        self._before = 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for leftover in self._folder.glob(".*.tmp"):
                leftover.unlink()
        except OSError as error:
            raise ArgumentError(
                f"PassCheckpoints({os.fspath(folder)!r})",
                f"a folder that can be made ({error.strerror})",
                remedy="name another",
            ) from error

    def __enter__(self) -> "PassCheckpoints":
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: every checkpoint is on the disk when `save` returns."""

    def restore(
        self, batches: Iterator[Any], settings: Mapping[str, Any]
    ) -> tuple[Moments, int] | None:
        """Return the last checkpoint's moments, and bring `batches` to its place.

        Args:
          batches: an iterator with `get_state` and `set_state`.
          settings: of the pass, kept beside it.

        Returns:
          Moments by device, on the host, and the rows that a batch is padded to; None
          at the first start.

        Raises:
          ValueError: if `batches` does not know its place, or the checkpoint is damaged
            or of another pass or version.
        """
        if not (hasattr(batches, "get_state") and hasattr(batches, "set_state")):
            raise ArgumentError(
                "accumulate_moments(batches=..., checkpoints=...)",
                "an iterator with `get_state` and `set_state`",
                type(batches).__name__,
                "use `array_pairs`, `store_pairs`, `encoded_pairs` or a Grain "
                "iterator, or leave checkpoints out",
            )
        self._settings = {
            "version": VERSION,
            "pass": dict(settings),
            "details": self._details,
        }
        paths = self._checkpoints()
        if not paths:
            return None
        place, tensors = self._read(paths[-1])
        self._check_settings(place["settings"])
        self._before = place["seen"]
        batches.set_state(place["batches"])  # pyright: ignore[reportAttributeAccessIssue]
        return Moments(**tensors), place["batch_rows"]

    def save(
        self, seen: int, local: Moments, batches: Iterator[Any], *, size: int
    ) -> None:
        """Keep the pass after `seen` batches of this run, every so often.

        Args:
          seen: batches of this run.
          local: moments by device.
          batches: the iterator that was restored.
          size: rows that a batch is padded to.
        """
        seen += self._before
        if seen % self._every:
            return
        place = json.dumps(
            {
                "settings": self._settings,
                "seen": seen,
                "batch_rows": size,
                "batches": batches.get_state(),  # pyright: ignore[reportAttributeAccessIssue]
            },
            sort_keys=True,
        )
        tensors = {
            name: np.asarray(value)
            for name, value in vars(local).items()
            if value is not None
        }
        metadata = {"place": place, "sha256": _digest(place, tensors)}
        write_atomically(
            self._folder / f"{seen}{_SUFFIX}",
            safetensors.numpy.save(tensors, metadata=metadata),
        )
        for path in self._checkpoints()[:-_KEPT]:
            path.unlink()

    def _checkpoints(self) -> list[Path]:
        """Return the checkpoints' files, the last one last."""
        if any(path.name.isdigit() for path in self._folder.iterdir()):
            self._check_settings({"version": 1})  # they were folders
        paths = self._folder.glob(f"*{_SUFFIX}")
        return sorted(paths, key=lambda path: int(path.stem))

    def _read(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read one checkpoint; raise `ArgumentError` if it is damaged."""
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            if metadata["sha256"] != _digest(metadata["place"], tensors):
                raise ValueError("its checksum fails")
            return json.loads(metadata["place"]), tensors
        except (KeyError, ValueError, OSError, safetensors.SafetensorError) as error:
            raise ArgumentError(
                f"PassCheckpoints({str(self._folder)!r})",
                "a whole checkpoint",
                f"{path.name}, which cannot be read ({str(error)[:200]})",
                f"delete {str(path)!r}, and the pass resumes from the one before",
            ) from error

    def _check_settings(self, found: Mapping[str, Any]) -> None:
        """Raise if the checkpoint belongs to another pass or version."""
        call = f"PassCheckpoints({str(self._folder)!r})"
        if found.get("version") != VERSION:
            expected = f"version {VERSION}"
            remedy = "delete the folder, or use the jaxalign that wrote it"
            raise ArgumentError(call, expected, repr(found.get("version")), remedy)
        for part in ("pass", "details"):
            own, other = self._settings[part], found[part]
            for key in sorted({*own, *other}):
                old, new = other.get(key), own.get(key)
                if old != new:
                    got = f"those of one with {key} = {old!r} (now {new!r})"
                    remedy = "name another folder, or delete this one"
                    raise ArgumentError(call, "checkpoints of this pass", got, remedy)


def _digest(place: str, tensors: Mapping[str, np.ndarray]) -> str:
    """Hash a checkpoint: safetensors notices a cut, not a flipped bit."""
    hashed = hashlib.sha256(place.encode())
    for name, tensor in sorted(tensors.items()):
        hashed.update(name.encode())
        hashed.update(np.ascontiguousarray(tensor).data)
    return hashed.hexdigest()
