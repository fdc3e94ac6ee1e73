# SPDX-License-Identifier: Apache-2.0
"""Writing files that are a header and then rows as they lie in memory."""

import concurrent.futures
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from jaxalign.modality import Modality
from jaxalign.rows.row_writer import RowWriter
from jaxalign.rows.unfinished import Output, Progress, Unfinished

# Bytes between two syncs: else the disk would be idle now, and busy at the end.
_SYNC_BYTES = 1 << 26
# Whole files that may wait for a sync: each is open until then.
_WAITING_FILES = 32


class Segment(NamedTuple):
    """Consecutive rows that have files of their own.

    Attributes:
      rows: how many, at least 1 unless the output has none.
      files: path of each modality's file, relative to the output; "" is the output.
      headers: what each file begins with.
    """

    rows: int
    files: dict[Modality, str]
    headers: dict[Modality, bytes]


class FlatWriter(RowWriter):
    """Appends to one file after another; syncs in a thread of its own.

    Attributes:
      complete: called with the output's path when all rows are on the disk, to write
        what is not rows; again after a kill. None: there is nothing else.
    """

    def __init__(
        self,
        unfinished: Unfinished,
        out: Output,
        segments: Sequence[Segment],
        complete: Callable[[Path], None] | None = None,
    ):
        self.complete = complete
        self._segments = list(segments)
        self._ends = np.cumsum([segment.rows for segment in segments]).tolist()
        self._row_bytes = {
            name: width * out.dtypes[name].itemsize
            for name, width in out.widths.items()
        }
        self._open: dict[Modality, IO[bytes]] = {}
        # Whole files that are not on the disk yet.
        self._unsynced: list[IO[bytes]] = []
        self._bytes = 0
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._syncing: concurrent.futures.Future[None] | None = None
        super().__init__(unfinished, self._ends[-1] if segments else 0, out)

    def _restore(self, rows: int) -> bool:
        """Check the files of earlier rows, and cut off what was not synced."""
        sizes: dict[Path, int] = {}
        cut: dict[Modality, Path] = {}
        start = 0
        for segment in self._segments:
            kept = min(max(rows - start, 0), segment.rows)
            start += segment.rows
            for name, file in segment.files.items() if kept else ():
                size = len(segment.headers[name]) + kept * self._row_bytes[name]
                sizes[self._path(file)] = size
                if kept < segment.rows:
                    cut[name] = self._path(file)
        if not all(
            path.is_file() and path.stat().st_size >= size
            for path, size in sizes.items()
        ):
            return False
        for path, size in sizes.items():
            os.truncate(path, size)
        for name, path in cut.items():
            self._open[name] = path.open("r+b", buffering=0)
            self._open[name].seek(0, os.SEEK_END)
        return True

    def _room(self, start: int) -> int:
        return self._ends[self._segment(start)] - start

    def _write(self, rows: Mapping[Modality, np.ndarray], start: int) -> None:
        number = self._segment(start)
        if not self._open:
            self._create(self._segments[number])
        stop = start
        for name, part in rows.items():
            _write_all(self._open[name], part)
            self._bytes += part.nbytes
            stop = start + len(part)
        if stop == self._ends[number]:
            self._unsynced += self._open.values()
            self._open = {}
        if self._bytes >= _SYNC_BYTES or len(self._unsynced) >= _WAITING_FILES:
            self._sync_soon(stop)

    def _sync_soon(self, rows: int) -> None:
        """Begin to bring what is written to the disk, once the last time is over."""
        if self._syncing is not None:
            if not self._syncing.done() and len(self._unsynced) < _WAITING_FILES:
                return
            self._syncing.result()
        whole, self._unsynced = self._unsynced, []
        progress = Progress(rows, self.nan_rows)
        files = [*whole, *self._open.values()]
        self._bytes = 0

        def sync() -> None:
            for file in files:
                os.fsync(file.fileno())
            self._unfinished.save(progress)
            for file in whole:
                file.close()

        self._syncing = self._thread.submit(sync)

    def _complete(self) -> None:
        if not self._count:
            for segment in self._segments:
                self._create(segment)
        if self._syncing is not None:
            self._syncing.result()
        for file in (*self._unsynced, *self._open.values()):
            os.fsync(file.fileno())
        if self.complete is not None:
            # What follows may be begun again, but no row is written twice.
            self._unfinished.save(Progress(self._count, self.nan_rows))
            self.complete(self._unfinished.output)

    def _close(self) -> None:
        self._thread.shutdown(wait=True)
        for file in (*self._unsynced, *self._open.values()):
            file.close()
        self._unsynced, self._open = [], {}

    def _segment(self, row: int) -> int:
        """Return the number of the segment that a row is in."""
        return int(np.searchsorted(self._ends, row, side="right"))

    def _create(self, segment: Segment) -> None:
        """Begin the files of a segment."""
        for name, file in segment.files.items():
            path = self._path(file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open[name] = path.open("w+b", buffering=0)
            _write_all(self._open[name], segment.headers[name])

    def _path(self, file: str) -> Path:
        output = self._unfinished.output
        return output / file if file else output


def write_one_file(
    unfinished: Unfinished,
    out: Output,
    rows: int,
    header: bytes,
    complete: Callable[[Path], None] | None = None,
) -> FlatWriter:
    """Return a writer of one matrix into one file."""
    (name,) = out.widths
    segment = Segment(rows, {name: ""}, {name: header})
    return FlatWriter(unfinished, out, [segment], complete)


def _write_all(file: IO[bytes], data: np.ndarray | bytes) -> None:
    """Write all bytes: the system takes at most 2 GiB at once."""
    # As bytes: not every dtype has a buffer, bfloat16 not.
    is_array = isinstance(data, np.ndarray)
    left = data.reshape(-1).view(np.uint8).data if is_array else memoryview(data)
    while left.nbytes:
        left = left[file.write(left) :]
