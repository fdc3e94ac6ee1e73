# SPDX-License-Identifier: Apache-2.0
"""Writing a store: batches in any order, by one process or many, killed or not."""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from filelock import BaseFileLock

from jaxalign.errors import ArgumentError, check_count, shorten
from jaxalign.repetitions import find_repeated
from jaxalign.store import start
from jaxalign.store.disk_errors import explain_full_disk, explain_unwritable
from jaxalign.store.failures import (
    OtherProcessError,
    note_failure,
    read_failures,
)
from jaxalign.store.incoming import Batch, check_batch
from jaxalign.store.ledger import Ledger
from jaxalign.store.manifest import Manifest, read_manifest, write_manifest
from jaxalign.store.plan import Plan
from jaxalign.store.reader import EmbeddingStore

_log = logging.getLogger(__name__)


class StoreWriter:
    """Appends to an unfinished store; made by `EmbeddingStore.create`.

    As a context manager it releases its lock at the end. A kill at any moment
    loses the append it falls into, at most: create the writer again, embed what
    `missing` lists, and the store's bytes are those of an undisturbed run.
    """

    def __init__(self, folder: str | os.PathLike[str], plan: Plan, process_index: int):
        self._call = f"EmbeddingStore.create({os.fspath(folder)!r})"
        check_count(
            "EmbeddingStore.create",
            "process_index",
            process_index,
            least=0,
            remedy="pass `jax.process_index()`",
        )
        self._folder = Path(folder)
        self._plan = plan
        self._temporary_folder = start.temporary_folder(self._folder, process_index)
        self._ledger = Ledger(self._folder, plan, self._temporary_folder)
        self._process_index = process_index
        with explain_unwritable(self._call, self._folder):
            self._lock: BaseFileLock | None = start.enter(
                self._call, self._folder, plan, process_index
            )
        # Notes of an earlier run, whose processes may begin again any moment.
        self._old_failures = read_failures(self._folder)

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._lock is not None:
            note_failure(self._folder, self._process_index, error)
        self.close()

    def close(self) -> None:
        """Release the lock; what was appended stays."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def folder(self) -> Path:
        """The store's folder."""
        return self._folder

    @property
    def parts(self) -> int:
        """Number of parts of the store."""
        return self._plan.parts

    def part_of(self, first: int) -> int:
        """Return the part of an example."""
        return first // self._plan.part_examples

    def part_range(self, part: int) -> range:
        """Return the examples of a part: one append stays within one."""
        return self._plan.part_range(part)

    @property
    def is_finished(self) -> bool:
        """Whether the manifest is written, by any process."""
        return read_manifest(self._call, self._folder) is not None

    def missing(self, first: int = 0, stop: int | None = None) -> list[range]:
        """List what is still to be embedded, in order, each range within one part.

        Chunks that are there are read and checked when they are first met, and a part
        whose chunks are all there is sealed: what a killed run left undone is done.

        Args:
          first: the first example asked about.
          stop: the end; that of the data without it.

        Returns:
          Ranges of examples that no append covers.

        Raises:
          FullDiskError: if a part cannot be sealed for want of room.
          ValueError: if the writer is closed, and the store not finished.
        """
        stop = self._plan.examples if stop is None else stop
        if first >= stop or self.is_finished:
            return []
        self._check_open(f"missing(first={first})")
        found = []
        try:
            for part in range(self.part_of(first), self.part_of(stop - 1) + 1):
                with explain_full_disk(self._folder):
                    left = self._ledger.missing(part)
                found += [
                    range(max(gap.start, first), min(gap.stop, stop))
                    for gap in left
                    if gap.start < stop and first < gap.stop
                ]
        except FileNotFoundError:
            # Another process finished, and the folder of the locks is gone.
            if not self.is_finished:
                raise
            return []
        return found

    def append(
        self,
        rows: Mapping[str, Any],
        *,
        first: int,
        ids: Sequence[str] | np.ndarray,
        columns: Mapping[str, Sequence | np.ndarray] = {},
        examples: int | None = None,
        skipped: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Add the rows of consecutive examples; they are on the disk on return.

        Args:
          rows: each of the store's modalities to (n, d) floating rows, in the order of
            the examples; anything that NumPy can read.
          first: the number of the first example, from 0, in the data.
          ids: n strings.
          columns: metadata, n strings or whole numbers each, such as `image_path`,
            `caption` and `label`; the same names in every append.
          examples: how many examples this covers; default n + len(skipped).
          skipped: (id, reason) of the examples that have no row.

        Raises:
          FullDiskError: if there is no room; earlier appends are kept.
          ValueError: if the batch does not fit the store, leaves its part, covers what
            was written before, holds rows that are not finite, or repeats an id of its
            part.
        """
        call = f"append(first={first})"
        self._check_open(call)
        batch = check_batch(
            call, self._plan, rows=rows, ids=ids, columns=columns, skipped=skipped
        )
        covered = self._check_range(call, first, examples, batch)
        with explain_full_disk(self._folder):
            self._ledger.agree_on_columns(call, batch)
            self._ledger.add(call, self.part_of(first), covered, batch)

    def is_complete(self) -> bool:
        """Tell whether all examples are covered, by whichever processes."""
        if self.is_finished:
            return True
        covered = all(self._ledger.is_covered(part) for part in range(self.parts))
        # Another process may have finished, and deleted the records, meanwhile.
        return covered or self.is_finished

    def check_others(self) -> None:
        """Find out whether another process of this run ended with an error.

        To be asked while they work, and while waiting for their parts. A process that
        is killed leaves no note.

        Raises:
          OtherProcessError: if one did, since this writer was created.
        """
        for index, failure in read_failures(self._folder).items():
            if self._old_failures.get(index) != failure:
                raise OtherProcessError(
                    f"process {index} of this run ended with an error ({failure[1]}); "
                    "all that was written is kept: mend that, and start all processes "
                    "again."
                )

    def finish(self) -> EmbeddingStore:
        """Write the manifest, once all parts are whole; then the store can be read.

        Several processes may call this: one writes, the others wait and find it
        written. Finishing a finished store opens it.

        Returns:
          The store.

        Raises:
          FullDiskError: if there is no room; all rows are kept.
          ValueError: if examples are missing, or an id comes twice.
        """
        with explain_full_disk(self._folder):
            try:
                if not self.is_finished:
                    with start.store_locked(self._folder):
                        if not self.is_finished:
                            self._write_manifest()
            except FileNotFoundError:
                # Another process finished, and the folder of the locks is gone.
                if not self.is_finished:
                    raise
        self.close()
        start.remove_unfinished(self._folder)
        return EmbeddingStore.open(self._folder)

    def _write_manifest(self) -> None:
        """Check what concerns the whole store, and declare it finished."""
        call = f"finish() of {str(self._folder)!r}"
        self._check_open(call)
        # Nothing remembered: the files of a part may have been deleted since.
        self._ledger = Ledger(self._folder, self._plan, self._temporary_folder)
        missing = self.missing()
        if missing:
            some = shorten([f"{gap.start}-{gap.stop - 1}" for gap in missing], most=5)
            expected = f"rows of all {self._plan.examples} examples"
            got = f"{sum(map(len, missing))} missing: {some}"
            remedy = "embed what `missing()` lists, and finish then"
            raise ArgumentError(call, expected, got, remedy)
        records = (self._ledger.record(part) for part in range(self.parts))
        manifest = Manifest(
            plan=self._plan,
            columns=self._ledger.columns() or {"id": "string"},
            parts=[record for record in records if record is not None],
        )
        start.check_no_stray_files(call, self._folder, set(manifest.files))
        paths = [self._folder / name for name in manifest.files]
        tables = [path for path in paths if path.suffix == ".parquet"]
        _log.info("Looking for repeated ids among %d rows.", manifest.rows)
        repeated = find_repeated(lambda: _stored_ids(tables), manifest.rows)
        if repeated:
            some = shorten([f"{n!r} in rows {i} and {j}" for n, i, j in repeated])
            raise ArgumentError(
                call,
                "ids that differ",
                f"{len(repeated)} or more that repeat: {some}",
                "all rows are kept, but a store cannot be finished with them: make "
                "the ids unique, and embed into another folder",
            )
        write_manifest(self._folder, manifest, temporary_folder=self._temporary_folder)

    def _check_open(self, call: str) -> None:
        """Raise unless this writer holds the lock."""
        if self._lock is None:
            expected = "an open writer of an unfinished store"
            got = "one that is closed, or whose store is finished"
            remedy = "call it within `with EmbeddingStore.create(...) as writer`"
            raise ArgumentError(call, expected, got, remedy)

    def _check_range(
        self, call: str, first: int, examples: int | None, batch: Batch
    ) -> range:
        """Return the examples of a batch; raise if they leave the store or a part."""
        rows, skipped = batch.table.num_rows, len(batch.skipped)
        count = rows + skipped if examples is None else examples
        if count != rows + skipped or count < 1:
            expected = "a row or a reason to skip for each of the examples"
            got = f"{rows} rows and {skipped} skipped for {count} examples"
            raise ArgumentError(call, expected, got, "leave padding out")
        covered = range(first, first + count)
        if first < 0 or covered.stop > self._plan.examples:
            expected = f"examples of 0 to {self._plan.examples - 1}"
            got = f"{first} to {covered.stop - 1}"
            raise ArgumentError(call, expected, got, "number them as the data does")
        whole = self._plan.part_range(self.part_of(first))
        if covered.stop > whole.stop:
            raise ArgumentError(
                call,
                f"examples of one part, {whole.start} to {whole.stop - 1}",
                f"{first} to {covered.stop - 1}",
                "split the batch there, or choose part_examples as a multiple of the "
                "batch size",
            )
        return covered


def _stored_ids(paths: Iterable[Path]) -> Iterator[list[str]]:
    """Yield the ids in metadata files, block by block."""
    for path in paths:
        with contextlib.closing(pq.ParquetFile(path)) as opened:
            for batch in opened.iter_batches(columns=["id"]):
                yield batch.column(0).to_pylist()
