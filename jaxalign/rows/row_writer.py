# SPDX-License-Identifier: Apache-2.0
"""`RowWriter`: rows are appended in order, and resumed after a kill."""

import abc
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import numpy as np

from jaxalign.errors import ArgumentError
from jaxalign.modality import Modality
from jaxalign.rows.unfinished import Output, Progress, Unfinished
from jaxalign.store.disk_errors import explain_full_disk


class RowWriter(abc.ABC):
    """Writes rows in order; made by `create_rows`.

    As a context manager it lets the target go at the end. What was synced stays for the
    next run of the same job, unless the block ends by an error of the user's.

    Attributes:
      done: rows that an earlier, killed run of the same job left safe: append those
        that follow.
    """

    def __init__(
        self,
        unfinished: Unfinished,
        count: int,
        out: Output,
    ):
        self._unfinished, self._count, self._out = unfinished, count, out
        progress = unfinished.progress
        if not progress.whole and not self._restore(progress.rows):
            unfinished.restart()
            progress = unfinished.progress
            self._restore(0)
        self.done = count if progress.whole else progress.rows
        self._next = self.done
        self._whole = progress.whole
        self._nan_rows = {name: 0 for name in out.widths} | progress.nan_rows

    @property
    def nan_rows(self) -> dict[Modality, int]:
        """How many rows of each modality are NaN, of all that were written."""
        return dict(self._nan_rows)

    @property
    def target(self) -> Path:
        """Path of the output."""
        return self._unfinished.target

    @property
    def widths(self) -> dict[Modality, int]:
        """Widths of the rows by modality."""
        return dict(self._out.widths)

    @property
    def dtypes(self) -> dict[Modality, np.dtype]:
        """Dtypes of the numbers by modality."""
        return dict(self._out.dtypes)

    def append(self, rows: Mapping[Modality, np.ndarray]) -> None:
        """Write the next rows of all modalities, in the writer's dtypes.

        Raises:
          ValueError: if a modality is missing, or shapes or dtypes are others.
        """
        counts = {len(part) for part in rows.values()}
        if set(rows) != set(self._out.widths) or len(counts) != 1:
            raise ArgumentError(
                "append(rows=...)",
                f"as many rows of each of {sorted(self._out.widths)}",
                {name: part.shape for name, part in rows.items()},
            )
        for name, part in rows.items():
            shape, dtype = (len(part), self._out.widths[name]), self._out.dtypes[name]
            if part.shape != shape or part.dtype != dtype:
                raise ArgumentError(
                    f"append(rows[{name!r}])",
                    f"{dtype} of shape {shape}",
                    f"{part.dtype} of shape {part.shape}",
                )
        (count,) = counts
        start = 0
        while start < count:
            stop = min(count, start + self._room(self._next))
            piece = {
                name: np.ascontiguousarray(part[start:stop])
                for name, part in rows.items()
            }
            for name, part in piece.items():
                # A bad row is NaN in all entries.
                self._nan_rows[name] += int(np.isnan(part[:, 0]).sum())
            with self._explained():
                self._write(piece, self._next)
            self._next += stop - start
            start = stop

    def finish(self) -> None:
        """Complete the output and give it its name.

        Raises:
          ValueError: if rows are missing.
        """
        if self._next != self._count:
            raise ArgumentError("finish()", f"{self._count} rows", self._next)
        with self._explained():
            if not self._whole:
                self._complete()
                self._unfinished.save(Progress(self._count, self.nan_rows, True))
                self._whole = True
            self._unfinished.publish()

    def _explained(self) -> AbstractContextManager[None]:
        """Turn the system's error of a full disk into one message."""
        target = self._unfinished.target
        return explain_full_disk(target.parent, repr(str(target)))

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        if isinstance(error, ArgumentError):
            # Started again, it would end alike.
            self._unfinished.discard()
        else:
            self._unfinished.close()

    @abc.abstractmethod
    def _restore(self, rows: int) -> bool:
        """Make ready to write row `rows`; False if earlier ones are not there."""

    @abc.abstractmethod
    def _room(self, start: int) -> int:
        """Return how many rows from `start` on one `_write` may take."""

    @abc.abstractmethod
    def _write(self, rows: Mapping[Modality, np.ndarray], start: int) -> None:
        """Write rows, the first of which is row `start`."""

    @abc.abstractmethod
    def _complete(self) -> None:
        """Bring everything to the disk: all rows are written."""

    @abc.abstractmethod
    def _close(self) -> None:
        """Close files."""
