# SPDX-License-Identifier: Apache-2.0
"""Reading a store: checked when it is opened, memory-mapped, in the data's order."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jaxalign.errors import ArgumentError, MissingFileError, check_count, check_option
from jaxalign.lazy_rows import ArrayRows, JoinedRows, Rows
from jaxalign.spaces import same_space
from jaxalign.store.incoming import COLUMN_TYPES
from jaxalign.store.integrity import (
    compare_checksums,
    compare_headers,
    raise_faults,
)
from jaxalign.store.layout import METADATA, stray_files
from jaxalign.store.manifest import Manifest, read_manifest
from jaxalign.store.part_writer import ROW_GROUP
from jaxalign.store.parts import read_record
from jaxalign.store.plan import Dtype, make_plan
from jaxalign.store.start import read_plan

if TYPE_CHECKING:
    import jaxalign.store.writer


class StoredBatch(NamedTuple):
    """Consecutive rows of a store.

    Attributes:
      start: the number of the first row.
      rows: modality to (n, d).
      ids: (n,) strings.
    """

    start: int
    rows: dict[str, np.ndarray]
    ids: np.ndarray


class EmbeddingStore:
    """Rows of one model on disk, finished: made by `create`, read after `open`.

    The folder is laid out as clip-retrieval and autofaiss expect, `img_emb/*.npy`,
    `text_emb/*.npy` and `metadata/*.parquet`, with a `manifest.json` that says which
    model and data the rows are of, and holds every file's size and checksum.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with EmbeddingStore.create(
    ...     folder, space="f00d", examples=2, part_examples=2, modalities={"text": 3}
    ... ) as writer:
    ...     writer.append({"text": np.eye(2, 3)}, first=0, ids=["one", "two"])
    ...     store = writer.finish()
    >>> len(store), store.dim("text"), store.ids().tolist()
    (2, 3, ['one', 'two'])
    """

    def __init__(self, folder: Path, manifest: Manifest):
        self._folder = folder
        self._manifest = manifest
        # Parts with rows, and the row that each starts at.
        self._parts = [
            (part, record.rows)
            for part, record in enumerate(manifest.parts)
            if record.rows
        ]
        self._starts = [
            0,
            *itertools.accumulate(rows for _, rows in self._parts),
        ]

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        *,
        space: str,
        examples: int,
        part_examples: int,
        modalities: Mapping[str, int],
        dtype: Dtype = "float32",
        details: Mapping[str, Any] = {},
        process_index: int = 0,
    ) -> "jaxalign.store.writer.StoreWriter":
        """Start to write a store, or go on where an earlier run stopped.

        Part k of the store covers the examples from k * part_examples on, whoever
        writes them. All processes that write together pass the same arguments, but for
        `process_index`.

        Args:
          folder: a new or empty folder, or that of an earlier run.
          space: the fingerprint of the model, `encoders.space`.
          examples: how many the data has.
          part_examples: examples of a part, at best a multiple of the batch size.
          modalities: "image" and "text", or one of them, each with its width.
          dtype: of the rows on disk.
          details: JSON values that say where the rows come from: model, data set,
            split, its fingerprint. A run with other details is another store.
          process_index: which of the processes that write together this is.

        Returns:
          The writer; its `is_finished` is True if there is nothing left to do.

        Notes:
          While a part becomes its files, its rows are on the disk twice. In memory are
          a batch of rows at a time, and 64 bits for each id of a part.

        Raises:
          FullDiskError: if the disk is full.
          ValueError: if the folder cannot be written or holds something else, such as
            the store of another model, or another run is writing it.
        """
        from jaxalign.store.writer import StoreWriter

        plan = make_plan(
            space=space,
            dtype=dtype,
            modalities=modalities,
            examples=examples,
            part_examples=part_examples,
            details=details,
        )
        return StoreWriter(folder, plan, process_index)

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], *, space: str | None = None
    ) -> "EmbeddingStore":
        """Open a finished store, after a check of all sizes and headers.

        Args:
          folder: the store's.
          space: refuse rows of another space than this; what earlier versions called
            the space of `encoders.space` is no other.

        Returns:
          The store.

        Raises:
          FileNotFoundError: if there is no store.
          ValueError: if it is unfinished, damaged, of another version or space.
        """
        call = f"EmbeddingStore.open({os.fspath(folder)!r})"
        place = Path(folder)
        manifest = read_manifest(call, place)
        if manifest is None:
            _raise_if_unfinished(call, place)
            raise MissingFileError(
                f"`{call}`: expected a store of embeddings, found no manifest; write "
                "one by `EmbeddingStore.create`."
            )
        if space is not None and not same_space(space, manifest.plan.space):
            raise ArgumentError(
                call,
                f"rows of space {space[:12]}...",
                f"{manifest.plan.space[:12]}...",
                "embed with the same model as before, or open the store of that one",
            )
        raise_faults(call, compare_headers(place, manifest.files))
        return cls(place, manifest)

    @property
    def folder(self) -> Path:
        """Folder of the store."""
        return self._folder

    @property
    def manifest(self) -> Manifest:
        """The manifest: plan, parts and files."""
        return self._manifest

    @property
    def space(self) -> str:
        """The fingerprint of the rows' space, with older ones where they are known."""
        return self._manifest.plan.space

    @property
    def fingerprint(self) -> str:
        """Hash of the store's contents, to identify what a result was computed from."""
        return self._manifest.fingerprint

    @property
    def dtype(self) -> np.dtype:
        """The rows' dtype on disk."""
        return self._manifest.plan.storage_dtype

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that every example has rows of."""
        return tuple(self._manifest.plan.modalities)

    @property
    def examples(self) -> int:
        """Number of examples of the data, including those without a row."""
        return self._manifest.plan.examples

    @property
    def details(self) -> dict[str, Any]:
        """Origin of the rows, as the writer gave it."""
        return dict(self._manifest.plan.details)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(id, reason) of the examples without a row, in order."""
        return [
            (name, reason)
            for part in self._manifest.parts
            for name, reason in part.skipped
        ]

    @property
    def metadata_files(self) -> list[Path]:
        """The metadata's files, in the order of the rows."""
        return [self._path(METADATA, part) for part, _ in self._parts]

    @property
    def columns(self) -> dict[str, str]:
        """The metadata's columns, each "string" or "int64"."""
        return dict(self._manifest.columns)

    def __len__(self) -> int:
        return self._manifest.rows

    def __repr__(self) -> str:
        widths = ", ".join(f"{name} {self.dim(name)}" for name in self.modalities)
        return f"EmbeddingStore({str(self.folder)!r}: {len(self)} rows, {widths})"

    def dim(self, modality: str) -> int:
        """Return the width of a modality's rows.

        Raises:
          ValueError: if the store has no such modality.
        """
        widths = self._manifest.plan.modalities
        remedy = "embed that one into a store of its own"
        check_option("EmbeddingStore", "modality", modality, widths, remedy=remedy)
        return widths[modality]

    def rows(
        self, modality: str, start: int = 0, stop: int | None = None
    ) -> np.ndarray | Rows:
        """Return rows in the data's order.

        Args:
          modality: one of `modalities`.
          start: the first row, as in a slice.
          stop: the end, as in a slice.

        Returns:
          (n, d) in the store's dtype: a read-only, memory-mapped view if the rows lie
          in one part. Rows of several parts are read when they are asked for, by
          slices or by numbers; `numpy.asarray` reads them all.

        Raises:
          ValueError: if the store has no such modality.
        """
        width = self.dim(modality)
        pieces = [
            np.load(self._path(modality, part), mmap_mode="r", allow_pickle=False)[
                first:last
            ]
            for part, first, last in self._spans(start, stop)
        ]
        if not pieces:
            return np.empty((0, width), self.dtype)
        if len(pieces) == 1:
            return pieces[0]
        return JoinedRows([ArrayRows(piece) for piece in pieces])

    def metadata(
        self,
        columns: Sequence[str] | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> pa.Table:
        """Return columns of the metadata, in the order of the rows.

        Args:
          columns: which; all of `self.columns` without it.
          start: the first row, as in a slice.
          stop: the end, as in a slice.

        Returns:
          A table with a line a row.

        Raises:
          ValueError: if the store has no such column.
        """
        names = list(self.columns if columns is None else columns)
        for name in names:
            check_option("metadata", "columns", name, self.columns, remedy="omit it")
        schema = pa.schema([(name, COLUMN_TYPES[self.columns[name]]) for name in names])
        pieces = [schema.empty_table()]
        for part, first, last in self._spans(start, stop):
            path = self._path(METADATA, part)
            with contextlib.closing(pq.ParquetFile(path)) as opened:
                groups = range(first // ROW_GROUP, -(-last // ROW_GROUP))
                table = opened.read_row_groups(list(groups), columns=names)
            offset = first - groups.start * ROW_GROUP
            pieces.append(table.select(names).slice(offset, last - first))
        return pa.concat_tables(pieces)

    def ids(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return the ids of rows, (n,) strings.

        Args:
          start: the first row, as in a slice.
          stop: the end, as in a slice.
        """
        names = self.metadata(["id"], start, stop)["id"].to_pylist()
        return np.array(names, dtype=np.str_)

    def batches(
        self,
        batch_size: int,
        *,
        modalities: Sequence[str] | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> Iterator[StoredBatch]:
        """Walk over rows and ids in constant memory.

        Args:
          batch_size: rows a batch; the last one may be shorter.
          modalities: which; all of them without it.
          start: the first row, as in a slice.
          stop: the end, as in a slice.

        Yields:
          Batches in the data's order.

        Raises:
          ValueError: if `batch_size` is less than 1, or the store lacks a modality.
        """
        check_count("batches", "batch_size", batch_size, remedy="pass rows a batch")
        wanted = self.modalities if modalities is None else tuple(modalities)
        begin, end, _ = slice(start, stop).indices(len(self))
        # Ids come by row groups: to read one for every small batch would be slow.
        stride = max(1, ROW_GROUP // batch_size) * batch_size
        for block in range(begin, end, stride):
            ids = self.ids(block, min(block + stride, end))
            for first in range(block, block + len(ids), batch_size):
                last = min(first + batch_size, end)
                yield StoredBatch(
                    start=first,
                    rows={
                        name: np.asanyarray(self.rows(name, first, last))
                        for name in wanted
                    },
                    ids=ids[first - block : last - block],
                )

    def verify(
        self,
        *,
        report: Callable[[int, int], None] = lambda done_bytes, all_bytes: None,
    ) -> None:
        """Read all files again and compare their checksums with the manifest.

        Args:
          report: called with the bytes read so far and all bytes, now and then.

        Raises:
          ValueError: naming the files that differ, and rows that are not the store's.
        """
        call = f"verify() of {str(self._folder)!r}"
        faults = compare_checksums(self._folder, self._manifest.files, report)
        faults += [
            f"{name}: not in the manifest"
            for name in stray_files(self._folder, self._manifest.files)
        ]
        raise_faults(call, faults)

    def _path(self, kind: str, part: int) -> Path:
        """Return the path of a part's file."""
        return self._folder / self._manifest.plan.part_files(part)[kind]

    def _spans(self, start: int, stop: int | None) -> Iterator[tuple[int, int, int]]:
        """Cut a slice of rows into parts: (part, first row in it, end in it)."""
        begin, end, _ = slice(start, stop).indices(len(self))
        for (part, rows), offset in zip(self._parts, self._starts, strict=False):
            first, last = max(begin - offset, 0), min(end - offset, rows)
            if first < last:
                yield part, first, last


def _raise_if_unfinished(call: str, folder: Path) -> None:
    """Raise over a store that is being written, or was."""
    plan = read_plan(call, folder)
    if plan is None:
        return
    sealed = sum(read_record(folder, part) is not None for part in range(plan.parts))
    got = f"one of {sealed} whole parts out of {plan.parts}"
    remedy = "start the command that writes it again: it resumes"
    raise ArgumentError(call, "a finished store", got, remedy)
