# SPDX-License-Identifier: Apache-2.0
"""Sealing: the chunks of a whole part become its files, and a record says so.

The order makes a kill harmless wherever it falls: files under other names, the names,
the record, and only then the chunks go. Whatever was done is done again in the same
way, from the chunks, until there is a record.
"""

import contextlib
import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from jaxalign.store.chunks import Chunk, read_chunk
from jaxalign.store.documents import DamagedError, read_document, write_document
from jaxalign.store.incoming import Batch
from jaxalign.store.layout import METADATA, UNFINISHED
from jaxalign.store.part_writer import open_part
from jaxalign.store.plan import Plan

_log = logging.getLogger(__name__)


class PartRecord(NamedTuple):
    """A sealed part.

    Attributes:
      rows: how many it has.
      files: relative path -> bytes and sha256; shape and dtype of row files.
      skipped: [id, reason] of its examples without a row.
    """

    rows: int
    files: dict[str, dict[str, Any]]
    skipped: list[list[str]]


def record_path(folder: Path, part: int) -> Path:
    """Return where the record of a sealed part is."""
    return folder / UNFINISHED / f"part-{part}.json"


def chunk_folder(folder: Path, part: int) -> Path:
    """Return where the chunks of a part are."""
    return folder / UNFINISHED / "chunks" / str(part)


def read_record(folder: Path, part: int) -> PartRecord | None:
    """Read the record of a part; None if it is not sealed, or its files are gone."""
    try:
        record = PartRecord(**read_document(record_path(folder, part)))
    except FileNotFoundError:
        return None
    except DamagedError as error:
        _log.warning("Part %d of %s: %s; it is made anew.", part, folder, error)
        return None
    for name, entry in record.files.items():
        size = _size(folder / name)
        if size != entry["bytes"]:
            _log.warning(
                "%s has %s bytes instead of %d; part %d is made anew.",
                folder / name,
                "no" if size is None else size,
                entry["bytes"],
                part,
            )
            return None
    return record


def seal_part(
    folder: Path,
    plan: Plan,
    part: int,
    chunks: list[Chunk],
    *,
    columns: dict[str, str],
    temporary_folder: Path,
) -> PartRecord | None:
    """Write the files of a part out of its chunks, one chunk in memory at a time.

    The caller holds the part's lock.

    Args:
      folder: the store's.
      plan: the store's.
      part: its number.
      chunks: in order, covering the part.
      columns: names and types of the metadata.
      temporary_folder: where files are until they are whole.

    Returns:
      The record, which is on disk; None if a chunk was damaged, and is now gone.
    """
    rows = sum(chunk.rows for chunk in chunks)
    files: dict[str, dict[str, Any]] = {}
    skipped: list[list[str]] = []
    names = plan.part_files(part)
    try:
        if rows:
            opened = open_part(
                folder,
                plan,
                part,
                rows=rows,
                columns=columns,
                temporary_folder=temporary_folder,
            )
            with opened as writer:
                for chunk in chunks:
                    batch = read_or_delete(chunk)
                    if chunk.rows:
                        writer.write(batch.rows, batch.table)
                    skipped.extend(map(list, batch.skipped))
                entries = writer.close()
            kinds = [*plan.modalities, METADATA]
            files = {names[kind]: entries[kind] for kind in kinds}
        else:
            for chunk in chunks:
                skipped.extend(map(list, read_or_delete(chunk).skipped))
            for name in names.values():
                # Of an earlier part that had rows, and was lost.
                (folder / name).unlink(missing_ok=True)
    except DamagedError:
        return None
    record = PartRecord(rows=rows, files=files, skipped=skipped)
    write_document(
        record_path(folder, part), record._asdict(), temporary_folder=temporary_folder
    )
    remove_chunks(folder, part)
    return record


def remove_chunks(folder: Path, part: int) -> None:
    """Delete what is left of a sealed part's chunks."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(chunk_folder(folder, part))


def read_or_delete(chunk: Chunk) -> Batch:
    """Read a chunk; raise `DamagedError` and delete it if its checksum fails."""
    batch = read_chunk(chunk)
    if batch is None:
        _log.warning(
            "%s is damaged; its examples %d to %d are missing again.",
            chunk.path,
            chunk.range.start,
            chunk.range.stop - 1,
        )
        chunk.path.unlink(missing_ok=True)
        raise DamagedError(f"a damaged {chunk.path.name}")
    return batch


def _size(path: Path) -> int | None:
    """Return a file's size, or None if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None
