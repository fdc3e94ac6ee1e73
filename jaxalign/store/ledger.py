# SPDX-License-Identifier: Apache-2.0
"""The rows of an unfinished store that are on disk, as one process knows them.

Other processes write into the same folder, so every answer starts from a listing; what
is remembered is only what cannot change: sealed parts, chunks that were read, the
columns. A part's lock is held while its chunks are looked at or written.
"""

import contextlib
from pathlib import Path

from jaxalign.errors import ArgumentError
from jaxalign.locks import locked
from jaxalign.store.chunks import Chunk, gaps, list_chunks, read_chunk, write_chunk
from jaxalign.store.documents import DamagedError, read_document, write_document
from jaxalign.store.incoming import Batch, order_columns
from jaxalign.store.layout import UNFINISHED
from jaxalign.store.parts import (
    PartRecord,
    chunk_folder,
    read_or_delete,
    read_record,
    remove_chunks,
    seal_part,
)
from jaxalign.store.plan import Plan
from jaxalign.store.start import store_locked


class Ledger:
    """The parts of one unfinished store: which rows are there, and where."""

    def __init__(self, folder: Path, plan: Plan, temporary_folder: Path):
        self._folder = folder
        self._plan = plan
        self._temporary_folder = temporary_folder
        self._sealed: dict[int, PartRecord] = {}
        # Chunks whose bytes were read, or written here.
        self._whole: set[Path] = set()
        # Of the parts written to: chunks, and the hashes of their ids.
        self._ids: dict[int, tuple[set[Path], set[int]]] = {}
        self._columns: dict[str, str] | None = None

    def part_locked(self, part: int) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of a part, which processes may share."""
        return locked(self._folder / UNFINISHED / f"part-{part}.lock")

    def record(self, part: int) -> PartRecord | None:
        """Return the record of a part; None if it is not sealed."""
        if part not in self._sealed:
            record = read_record(self._folder, part)
            if record is None:
                return None
            self._note_sealed(part, record)
        return self._sealed[part]

    def is_covered(self, part: int) -> bool:
        """Tell whether a part is complete, from names alone."""
        if self.record(part) is not None:
            return True
        ranges = [chunk.range for chunk in self._chunks(part)]
        return not gaps(self._plan.part_range(part), ranges)

    def missing(self, part: int) -> list[range]:
        """Return the missing examples of a part; seal the part if it is complete.

        Chunks are read when they are first met, and deleted if they are damaged.
        """
        with self.part_locked(part):
            if self.record(part) is not None:
                # Of a run that was killed while it deleted them.
                remove_chunks(self._folder, part)
                return []
            whole = self._plan.part_range(part)
            left = gaps(whole, [chunk.range for chunk in self._read_chunks(part)])
            if not left and not self._seal(part):
                left = gaps(whole, [chunk.range for chunk in self._chunks(part)])
            return left

    def add(self, call: str, part: int, covered: range, batch: Batch) -> None:
        """Write a batch into a part, and seal the part if it is whole by that.

        Raises:
          ValueError: if examples are written already, or ids are in the part already.
        """
        with self.part_locked(part):
            chunks = self._check_not_written(call, part, covered)
            self._check_new_ids(call, part, chunks, batch)
            place = chunk_folder(self._folder, part)
            path = write_chunk(
                place, covered.start, len(covered), batch, self._temporary_folder
            )
            self._whole.add(path)
            self._note_ids(part, path, batch.ids)
            ranges = [chunk.range for chunk in self._chunks(part)]
            if not gaps(self._plan.part_range(part), ranges):
                self._seal(part)

    def columns(self) -> dict[str, str] | None:
        """Return the columns that the first append of any process had, if any was."""
        if self._columns is None:
            path = self._folder / UNFINISHED / "columns.json"
            try:
                self._columns = order_columns(read_document(path)["columns"])
            except FileNotFoundError:
                return None
            except DamagedError as error:
                raise ArgumentError(
                    repr(str(self._folder)),
                    "an unfinished store that can be resumed",
                    str(error),
                    "embed into another folder",
                ) from error
        return self._columns

    def agree_on_columns(self, call: str, batch: Batch) -> None:
        """Let the first batch of the store fix the columns; raise over other columns.

        The caller holds no part's lock: `finish` takes the store's first.

        Raises:
          ValueError: if the batch has other columns.
        """
        if not batch.columns:
            return
        if self.columns() is None:
            with store_locked(self._folder):
                if self.columns() is None:
                    path = self._folder / UNFINISHED / "columns.json"
                    write_document(path, {"columns": batch.columns})
        stored = self.columns()
        if batch.columns != stored:
            raise ArgumentError(
                call,
                f"columns {stored}, as in the store's first append",
                batch.columns,
                "pass the same columns for all rows, or start anew in another folder",
            )

    def _chunks(self, part: int) -> list[Chunk]:
        """List the chunks of a part that is not sealed."""
        place = chunk_folder(self._folder, part)
        return list_chunks(place, self._plan.part_range(part))

    def _read_chunks(self, part: int) -> list[Chunk]:
        """List the chunks of a part; those not read before are read, or deleted."""
        chunks = []
        for chunk in self._chunks(part):
            if chunk.path not in self._whole:
                try:
                    read_or_delete(chunk)
                except DamagedError:
                    continue
                self._whole.add(chunk.path)
            chunks.append(chunk)
        return chunks

    def _seal(self, part: int) -> bool:
        """Seal a part whose chunks cover it; False if one of them was damaged."""
        chunks = self._chunks(part)
        record = seal_part(
            self._folder,
            self._plan,
            part,
            chunks,
            columns=self.columns() or {},
            temporary_folder=self._temporary_folder,
        )
        if record is None:
            return False
        self._note_sealed(part, record)
        self._whole.difference_update(chunk.path for chunk in chunks)
        return True

    def _note_sealed(self, part: int, record: PartRecord) -> None:
        """Remember a sealed part, and forget its ids."""
        self._sealed[part] = record
        self._ids.pop(part, None)

    def _check_not_written(self, call: str, part: int, covered: range) -> list[Chunk]:
        """Return a part's chunks; raise if they hold examples of this range."""
        chunks = []
        if self.record(part) is not None:
            written = [self._plan.part_range(part)]
        else:
            chunks = self._chunks(part)
            written = [
                chunk.range
                for chunk in chunks
                if chunk.range.start < covered.stop and covered.start < chunk.range.stop
            ]
        if written:
            raise ArgumentError(
                call,
                "examples that are not written yet",
                f"{covered.start} to {covered.stop - 1}, while {written[0].start} to "
                f"{written[0].stop - 1} are there",
                "append only what `missing` lists, in one process",
            )
        return chunks

    def _check_new_ids(
        self, call: str, part: int, chunks: list[Chunk], batch: Batch
    ) -> None:
        """Raise over ids that the part holds already; `finish` compares the parts."""
        if not batch.ids:
            return
        paths, hashes = self._ids.setdefault(part, (set(), set()))
        for chunk in chunks:
            if chunk.path not in paths:
                stored = read_chunk(chunk)
                self._note_ids(part, chunk.path, stored.ids if stored else [])
        suspects = {name for name in batch.ids if hash(name) in hashes}
        for chunk in chunks if suspects else []:
            stored = read_chunk(chunk)
            twice = suspects.intersection(stored.ids if stored else [])
            if twice:
                raise ArgumentError(
                    call,
                    "ids that differ",
                    f"{min(twice)!r}, which is among examples {chunk.range.start} to "
                    f"{chunk.range.stop - 1} already",
                    "make ids unique, such as by a number",
                )

    def _note_ids(self, part: int, path: Path, ids: list[str]) -> None:
        """Remember the ids of a chunk, by their hashes."""
        paths, hashes = self._ids.setdefault(part, (set(), set()))
        paths.add(path)
        hashes.update(map(hash, ids))
