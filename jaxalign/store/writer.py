# SPDX-License-Identifier: Apache-2.0
"""Writing a store: batches in any order, by one process or many, killed or not."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from absl import logging

from jaxalign.file_lock import locked
from jaxalign.store import parts as part_files
from jaxalign.store import start
from jaxalign.store.chunks import Chunk, gaps, list_chunks, read_chunk, write_chunk
from jaxalign.store.documents import read_document, write_document
from jaxalign.store.incoming import Batch, check_batch, order_columns
from jaxalign.store.layout import UNFINISHED
from jaxalign.store.manifest import Manifest, read_manifest, write_manifest
from jaxalign.store.plan import Plan
from jaxalign.store.reader import EmbeddingStore
from jaxalign.store.trouble import full_disk_told, unwritable_told
from jaxalign.store.unique_ids import repeated_ids, stored_ids


class StoreWriter:
    """What appends to an unfinished store; made by `EmbeddingStore.create`.

    Used as a context manager it lets go of its lock at the end. A kill at any moment
    loses the append it falls into, at most: create the writer again, embed what
    `missing` lists, and the store's bytes are those of an undisturbed run.
    """

    def __init__(self, folder: str | os.PathLike[str], plan: Plan, process_index: int):
        self._call = f"`EmbeddingStore.create({os.fspath(folder)!r})`"
        self._folder = Path(folder)
        self._plan = plan
        self._temporary = start.temporary_folder(self._folder, process_index)
        self._sealed: dict[int, part_files.PartRecord] = {}
        # Chunks whose bytes were read, and the hashes of their ids, by part.
        self._whole: set[Path] = set()
        self._seen: dict[int, tuple[set[Path], set[int]]] = {}
        self._columns: dict[str, str] | None = None
        with unwritable_told(self._call, self._folder):
            self._lock: IO | None = start.enter(
                self._call, self._folder, plan, process_index
            )

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lock; what was appended stays."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def folder(self) -> Path:
        """The store's folder."""
        return self._folder

    @property
    def parts(self) -> int:
        """How many parts the store has."""
        return self._plan.parts

    def part_of(self, first: int) -> int:
        """Return the part of an example."""
        return first // self._plan.part_examples

    def part_range(self, part: int) -> range:
        """Return the examples of a part: one append stays within one."""
        return self._plan.part_range(part)

    @property
    def is_finished(self) -> bool:
        """Whether the manifest is written, by whichever process."""
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
        """
        stop = self._plan.examples if stop is None else stop
        if first >= stop or self.is_finished:
            return []
        found = []
        try:
            for part in range(self.part_of(first), self.part_of(stop - 1) + 1):
                with full_disk_told(self._folder), self._part_locked(part):
                    chunks = self._settle(part)
                if chunks is None:
                    continue
                whole = self._plan.part_range(part)
                wanted = range(max(first, whole.start), min(stop, whole.stop))
                found.extend(gaps(wanted, [chunk.range for chunk in chunks]))
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
        call = f"`append(first={first})`"
        if self._lock is None:
            raise ValueError(
                f"{call}: expected an open writer of an unfinished store, got one that "
                "is finished or closed; see `missing` for what is to be written."
            )
        batch = check_batch(
            call, self._plan, rows=rows, ids=ids, columns=columns, skipped=skipped
        )
        covered = self._check_range(call, first, examples, batch)
        part = self.part_of(first)
        with full_disk_told(self._folder):
            # Before the part's lock: `finish` takes the two locks in this order.
            self._agree_on_columns(call, batch)
            with self._part_locked(part):
                chunks = self._unwritten(call, part, covered)
                self._refuse_repeated(call, part, chunks, batch)
                place = part_files.chunk_folder(self._folder, part)
                path = write_chunk(place, first, len(covered), batch, self._temporary)
                self._whole.add(path)
                self._note_ids(part, path, batch.ids)
                self._settle(part)

    def is_complete(self) -> bool:
        """Tell whether all examples are covered, by whichever processes."""
        if self.is_finished:
            return True
        covered = all(
            self._record(part) is not None
            or not gaps(
                self._plan.part_range(part),
                [chunk.range for chunk in self._chunks(part)],
            )
            for part in range(self.parts)
        )
        # Another process may have finished, and deleted the records, meanwhile.
        return covered or self.is_finished

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
        with full_disk_told(self._folder):
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
        call = f"`finish()` of {str(self._folder)!r}"
        missing = self.missing()
        if missing:
            some = ", ".join(f"{gap.start}-{gap.stop - 1}" for gap in missing[:5])
            raise ValueError(
                f"{call}: expected rows of all {self._plan.examples} examples, "
                f"{sum(map(len, missing))} are missing: {some}"
                f"{', ...' if len(missing) > 5 else ''}; embed what `missing()` lists, "
                "and finish then."
            )
        manifest = Manifest(
            plan=self._plan,
            columns=self._stored_columns() or {"id": "string"},
            parts=[self._sealed[part] for part in range(self.parts)],
        )
        start.refuse_stray_files(call, self._folder, set(manifest.files))
        paths = [self._folder / name for name in manifest.files]
        tables = [path for path in paths if path.suffix == ".parquet"]
        logging.info("Looking for repeated ids among %d rows.", manifest.rows)
        repeated = repeated_ids(lambda: stored_ids(tables), manifest.rows)
        if repeated:
            some = ", ".join(
                f"{name!r} in rows {one} and {two}" for name, one, two in repeated[:3]
            )
            raise ValueError(
                f"{call}: expected ids that differ, got {len(repeated)} or more that "
                f"repeat: {some}; all rows are kept, but a store cannot be finished "
                "with them: make the ids unique, and embed into another folder."
            )
        write_manifest(self._folder, manifest, temporary_folder=self._temporary)

    def _part_locked(self, part: int):
        """Hold the lock of a part, which processes may share."""
        return locked(self._folder / UNFINISHED / f"part-{part}.lock")

    def _record(self, part: int) -> part_files.PartRecord | None:
        """Return the record of a sealed part."""
        if part not in self._sealed:
            record = part_files.read_record(self._folder, part)
            if record is None:
                return None
            self._sealed[part] = record
            self._seen.pop(part, None)
        return self._sealed[part]

    def _chunks(self, part: int) -> list[Chunk]:
        """List the chunks of a part that is not sealed."""
        place = part_files.chunk_folder(self._folder, part)
        return list_chunks(place, self._plan.part_range(part))

    def _settle(self, part: int) -> list[Chunk] | None:
        """Return a part's whole chunks; None once it is sealed, here or before.

        The caller holds the part's lock.
        """
        if self._record(part) is not None:
            part_files.remove_chunks(self._folder, part)
            return None
        chunks = []
        for chunk in self._chunks(part):
            if chunk.path in self._whole or not part_files.discard_if_damaged(chunk):
                self._whole.add(chunk.path)
                chunks.append(chunk)
        ranges = [chunk.range for chunk in chunks]
        if gaps(self._plan.part_range(part), ranges):
            return chunks
        record = part_files.seal_part(
            self._folder,
            self._plan,
            part,
            chunks,
            columns=self._stored_columns() or {},
            temporary_folder=self._temporary,
        )
        if record is None:  # damaged between two readings
            return self._chunks(part)
        self._sealed[part] = record
        self._seen.pop(part, None)
        self._whole.difference_update(chunk.path for chunk in chunks)
        return None

    def _check_range(
        self, call: str, first: int, examples: int | None, batch: Batch
    ) -> range:
        """Return the examples of a batch; refuse those outside the store or a part."""
        rows, skipped = batch.table.num_rows, len(batch.skipped)
        count = rows + skipped if examples is None else examples
        if count != rows + skipped or count < 1:
            raise ValueError(
                f"{call}: expected a row or a reason to skip for each of the examples, "
                f"got {rows} rows and {skipped} skipped for {count} examples; leave "
                "padding out."
            )
        covered = range(first, first + count)
        if first < 0 or covered.stop > self._plan.examples:
            raise ValueError(
                f"{call}: expected examples of 0 to {self._plan.examples - 1}, got "
                f"{first} to {covered.stop - 1}; number them as the data does."
            )
        whole = self._plan.part_range(self.part_of(first))
        if covered.stop > whole.stop:
            raise ValueError(
                f"{call}: expected examples of one part, {whole.start} to "
                f"{whole.stop - 1}, got {first} to {covered.stop - 1}; split the batch "
                "there, or choose part_examples as a multiple of the batch size."
            )
        return covered

    def _unwritten(self, call: str, part: int, covered: range) -> list[Chunk]:
        """Return a part's chunks; refuse to write what is written already."""
        if self.is_finished:
            written = covered
        elif self._record(part) is not None:
            written = self._plan.part_range(part)
        else:
            chunks = self._chunks(part)
            overlapping = [
                chunk.range
                for chunk in chunks
                if chunk.range.start < covered.stop and covered.start < chunk.range.stop
            ]
            if not overlapping:
                return chunks
            written = overlapping[0]
        raise ValueError(
            f"{call}: expected examples that are not written yet, got "
            f"{covered.start} to {covered.stop - 1}, while {written.start} to "
            f"{written.stop - 1} are there; append only what `missing()` lists, in one "
            "process."
        )

    def _stored_columns(self) -> dict[str, str] | None:
        """Return the columns that the first append of any process had."""
        if self._columns is None:
            path = self._folder / UNFINISHED / "columns.json"
            try:
                self._columns = order_columns(read_document(path)["columns"])
            except FileNotFoundError:
                return None
        return self._columns

    def _agree_on_columns(self, call: str, batch: Batch) -> None:
        """Let the first batch of the store fix the columns; refuse others."""
        if not batch.columns:
            return
        if self._stored_columns() is None:
            with start.store_locked(self._folder):
                if self._stored_columns() is None:
                    path = self._folder / UNFINISHED / "columns.json"
                    write_document(path, {"columns": batch.columns})
        stored = self._stored_columns()
        if batch.columns != stored:
            raise ValueError(
                f"{call}: expected columns {stored}, as in the store's first append, "
                f"got {batch.columns}; pass the same columns for all rows, or start "
                "anew in another folder."
            )

    def _refuse_repeated(
        self, call: str, part: int, chunks: list[Chunk], batch: Batch
    ) -> None:
        """Refuse ids that the part has already; other parts are seen to at the end."""
        if not batch.ids:
            return
        paths, hashes = self._seen.setdefault(part, (set(), set()))
        for chunk in chunks:
            if chunk.path not in paths:
                stored = read_chunk(chunk)
                self._note_ids(part, chunk.path, stored.ids if stored else [])
        suspects = {name for name in batch.ids if hash(name) in hashes}
        for chunk in chunks if suspects else []:
            stored = read_chunk(chunk)
            twice = suspects.intersection(stored.ids if stored else [])
            if twice:
                raise ValueError(
                    f"{call}: expected ids that differ, got {min(twice)!r}, which is "
                    f"among examples {chunk.range.start} to {chunk.range.stop - 1} "
                    "already; make ids unique, such as by a number."
                )

    def _note_ids(self, part: int, path: Path, ids: list[str]) -> None:
        """Remember the ids of a chunk, by their hashes."""
        paths, hashes = self._seen.setdefault(part, (set(), set()))
        paths.add(path)
        hashes.update(map(hash, ids))
