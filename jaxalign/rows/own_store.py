# SPDX-License-Identifier: Apache-2.0
"""Our own store: rows, ids and the space that its manifest names."""

from typing import TYPE_CHECKING

import numpy as np

from jaxalign.errors import ArgumentError
from jaxalign.lazy_rows import as_rows
from jaxalign.modality import Modality
from jaxalign.rows.folder import Part
from jaxalign.rows.parquet_columns import ColumnIds, open_table
from jaxalign.rows.places import Place, missing_package, open_checked
from jaxalign.rows.row_set import Ids, RowSet
from jaxalign.store.layout import MANIFEST, METADATA

if TYPE_CHECKING:
    from jaxalign.store.reader import EmbeddingStore


class StoreRowSet(RowSet):
    """Rows of a store.

    Attributes:
      store: the `EmbeddingStore`.
      place: its folder.
      parts: those that have rows, in order.
    """

    store: "EmbeddingStore"
    place: Place
    parts: list[Part]


def is_store(place: Place) -> bool:
    """Whether a folder has a manifest."""
    return place.child(MANIFEST).is_file()


def open_store(
    where: str,
    text: str,
    place: Place,
    modality: Modality | None,
    id_column: str | None,
) -> StoreRowSet:
    """Open a finished store.

    Raises:
      ValueError: if it is damaged, not local, or lacks the modality.
    """
    try:
        from jaxalign.store.reader import EmbeddingStore
    except ModuleNotFoundError as error:
        raise missing_package(where, error.name or "pyarrow", "a store") from error
    open_checked(where, place.child(MANIFEST)).close()
    if place.local is None:
        raise ArgumentError(
            where, "a store on this machine", place.name, "copy the folder here first"
        )
    return store_row_set(EmbeddingStore.open(place.local), text, modality, id_column)


def store_row_set(
    store: "EmbeddingStore",
    text: str | None = None,
    modality: Modality | None = None,
    id_column: str | None = None,
) -> StoreRowSet:
    """Return the rows of an open store.

    Args:
      store: the store.
      text: the reference that named it; its folder without it.
      modality: the only one; all without it.
      id_column: a column of the metadata to take ids from, instead of the store's own.

    Raises:
      ValueError: if the store lacks the modality or the column.
    """
    text = str(store.folder) if text is None else text
    where = f"open_rows(reference={text!r})"
    names = store.modalities if modality is None else (modality,)
    ids: Ids = _StoreIds(store)
    if id_column is not None:
        paths = store.metadata_files
        tables = [open_table(where, Place(str(path), path)) for path in paths]
        ids = ColumnIds(where, tables, id_column)
    rows = {name: as_rows(store.rows(name)) for name in names}
    found = StoreRowSet(
        text,
        "store",
        rows,
        places=[Place(str(store.folder), store.folder)],
        identity=[store.fingerprint],
        space=store.space,
        ids=ids,
    )
    found.parts = []
    found.store, found.place = store, found.places[0]
    manifest = store.manifest
    for number, record in enumerate(manifest.parts):
        if record.rows:
            files = manifest.plan.part_files(number)
            metadata = files.pop(METADATA)
            kept = {name: files[name] for name in rows}
            found.parts.append(Part(record.rows, kept, metadata))
    return found


class _StoreIds(Ids):
    """Ids of a store, which are unique."""

    unique = True

    def __init__(self, store: "EmbeddingStore"):
        self._store = store

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the ids of rows ``start`` to ``stop``."""
        return self._store.ids(start, stop)
