# SPDX-License-Identifier: Apache-2.0
"""Folders of clip-retrieval and autofaiss, made by anyone.

    img_emb/img_emb_{k}.npy  text_emb/text_emb_{k}.npy  metadata/metadata_{k}.parquet

Parts go by their number, padded or not. Any of the three folders may be missing, and a
part may be empty. A folder of `.npy` files alone, as autofaiss takes it, is one matrix.
Metadata are carried along and never interpreted, but for a column of ids that the user
names.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from jaxalign.errors import ArgumentError, shorten
from jaxalign.lazy_rows import Rows, join_rows
from jaxalign.modality import Modality
from jaxalign.rows.npy import npy_rows
from jaxalign.rows.parquet_columns import ColumnIds, TableFile, open_table
from jaxalign.rows.places import Place
from jaxalign.rows.row_set import ROWS, RowSet, check_widths
from jaxalign.store.layout import METADATA, ROW_FOLDERS


class Part(NamedTuple):
    """The files of one part that has rows.

    Attributes:
      rows: how many.
      files: the `.npy` file of each modality, relative to the folder.
      metadata: the metadata's file, relative to the folder, or None.
    """

    rows: int
    files: dict[Modality, str]
    metadata: str | None


class FolderRowSet(RowSet):
    """Rows of a folder.

    Attributes:
      place: the folder.
      parts: those that have rows, in order.
    """

    place: Place
    parts: list[Part]


def is_embedding_folder(place: Place) -> bool:
    """Whether a folder looks like one of clip-retrieval or autofaiss."""
    return bool(_row_folders(place))


def open_folder(
    where: str,
    text: str,
    place: Place,
    modality: Modality | None,
    id_column: str | None,
) -> FolderRowSet:
    """Open a folder that has no manifest.

    Args:
      where: the call, for errors.
      text: the reference.
      place: the folder.
      modality: the only one to open; all without it.
      id_column: column of the metadata that holds ids.

    Raises:
      FileNotFoundError: if there is no such folder.
      ValueError: if parts do not belong together, widths differ, or a modality or
        column is missing.
    """
    folders = _row_folders(place)
    lone = set(folders) == {ROWS}
    if modality is not None and not lone:
        if modality not in folders:
            raise ArgumentError(
                where,
                f"rows of modality {modality!r} in the folder",
                f"{sorted(folders)}",
                "name one that is there, such as "
                f"'{text.partition('::')[0]}::{sorted(folders)[0]}'",
            )
        folders = {modality: folders[modality]}
    found = {
        name: _by_number(where, folder.children(".npy"))
        for name, folder in folders.items()
    }
    tables = {
        number: open_table(where, one)
        for number, one in _by_number(
            where, place.child(METADATA).children(".parquet")
        ).items()
    }
    rows = {
        name: {number: npy_rows(where, one) for number, one in files.items()}
        for name, files in found.items()
    }
    numbers = _agree(where, rows, tables)
    for name, pieces in rows.items():
        check_widths(
            where, {found[name][number].base: piece for number, piece in pieces.items()}
        )
    parts = [
        Part(
            len(next(iter(rows.values()))[number]),
            {name: _relative(place, found[name][number], lone) for name in found},
            f"{METADATA}/{tables[number].place.base}" if number in tables else None,
        )
        for number in numbers
    ]
    used = [tables[number] for number in numbers if number in tables]
    if id_column is not None and not used:
        raise ArgumentError(
            where,
            f"metadata with the column {id_column!r}",
            "a folder without metadata",
            "leave the column of ids out: rows then pair by position",
        )
    places = [one for files in found.values() for one in files.values()]
    places += [table.place for table in tables.values()]
    names = {(modality or ROWS) if lone else name: name for name in rows}
    opened = FolderRowSet(
        text,
        "folder",
        {
            name: join_rows(
                [rows[own][number] for number in numbers] or [*rows[own].values()][:1]
            )
            for name, own in names.items()
        },
        places=[place, *places],
        ids=None if id_column is None else ColumnIds(where, used, id_column),
    )
    opened.place = place
    opened.parts = [
        part._replace(files={name: part.files[own] for name, own in names.items()})
        for part in parts
    ]
    return opened


def _row_folders(place: Place) -> dict[Modality, Place]:
    """Return the folders of `.npy` files by modality; the folder itself is one's."""
    inner = {name: place.child(folder) for name, folder in ROW_FOLDERS.items()}
    folders = {name: one for name, one in inner.items() if one.children(".npy")}
    if not folders and place.children(".npy"):
        return {ROWS: place}
    return folders


def _relative(place: Place, file: Place, lone: bool) -> str:
    """Name a file relative to its folder."""
    if lone:
        return file.base
    return file.name.removeprefix(place.name.rstrip("/")).lstrip("/")


def _by_number(where: str, files: list[Place]) -> dict[int | str, Place]:
    """Key files by the number that ends their name, or by the name without one."""
    found: dict[int | str, Place] = {}
    for file in files:
        match = re.search(r"(\d+)$", file.stem)
        key = int(match[1]) if match else file.stem
        if key in found:
            raise ArgumentError(
                where,
                "one file for each number",
                f"{found[key].base} and {file.base}",
                "move one of them away",
            )
        found[key] = file
    return found


def _agree(
    where: str,
    rows: Mapping[Modality, Mapping[int | str, Rows]],
    tables: Mapping[int | str, TableFile],
) -> list[int | str]:
    """Return the parts that have rows; raise unless all of a part's files agree."""
    sides: dict[str, dict[int | str, int]] = {
        ROW_FOLDERS.get(name, "the folder"): {
            number: len(one) for number, one in pieces.items()
        }
        for name, pieces in rows.items()
    }
    if tables:
        sides[METADATA] = {number: table.rows for number, table in tables.items()}
    # In the order of the files, which is that of their numbers.
    numbers = list(dict.fromkeys(number for side in sides.values() for number in side))
    if all(isinstance(number, int) for number in numbers):
        numbers.sort()  # pyright: ignore[reportCallIssue]
    faults = []
    for number in numbers:
        counts = {name: side.get(number) for name, side in sides.items()}
        # A part without rows may have no file.
        if len({count or 0 for count in counts.values()}) > 1:
            told = (
                f"{name} {'no file' if count is None else f'{count:,} rows'}"
                for name, count in counts.items()
            )
            faults.append(f"part {number}: {', '.join(told)}")
    if faults:
        raise ArgumentError(
            where,
            "as many rows in all files of a part",
            shorten(faults, separator="; "),
            "copy the folder again, or name one modality, such as `folder/::image`",
        )
    return [
        number for number in numbers if any(side.get(number) for side in sides.values())
    ]
