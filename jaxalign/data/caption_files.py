# SPDX-License-Identifier: Apache-2.0
"""Reading a CSV or JSONL file that lists pictures with their captions and labels."""

import contextlib
import csv
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from jaxalign.data import columns
from jaxalign.data.own_examples import ONLY_SPLIT, SCHEMA
from jaxalign.data.own_texts import Role, check_text, parse_json
from jaxalign.errors import ArgumentError

PICTURE_COLUMNS = ("file_name", "image_path", "image", "path", "filepath")
CAPTION_COLUMNS = ("caption", "text", "title")
LABEL_COLUMNS = ("label", "class")

_SCHEMA = pa.schema([*SCHEMA, ("path", pa.string()), ("line", pa.int64())])
_WITH_ID = _SCHEMA.append(pa.field("id", pa.string()))


def read_caption_file(path: Path) -> pa.Table:
    """Read a list of pictures.

    Of the names that a column may have (`PICTURE_COLUMNS`, `CAPTION_COLUMNS`,
    `LABEL_COLUMNS`, "split", "id") the first one found is read; other columns are not.

    Args:
      path: a CSV file with a header, commas and double quotes, or a JSONL file with an
        object a line; UTF-8.

    Returns:
      A table of `own_examples.SCHEMA`, "path" (of the picture, as written) and, if the
      list has such a column, "id"; without it the paths are the ids.

    Raises:
      ValueError: for a file that cannot be read, columns that are missing, a path that
        leads out of the file's folder, an id twice in a split, or what no text may hold
        (`own_texts.check_text`); with line numbers.
    """
    read = _jsonl_rows if path.suffix.lower() == ".jsonl" else _csv_rows
    chosen = builder = None
    with _explain_unreadable(path):
        for line, row in read(path):
            if chosen is None or builder is None:
                chosen = _choose_columns(row, path)
                builder = columns.TableBuilder(_WITH_ID if chosen.id else _SCHEMA)
            builder.add(*_cells(row, chosen, path, line))
    if builder is None:
        raise ArgumentError(repr(str(path)), "a line a picture", "no pictures")
    table = builder.finish()
    key = "id" if "id" in table.column_names else "path"
    duplicate = columns.find_duplicate(table.select(["split", key]))
    if duplicate is not None:
        first, second = (table["line"][row].as_py() for row in duplicate)
        got = f"{table[key][duplicate[0]].as_py()!r} on the lines {first} and {second}"
        remedy = "a column `id` may tell apart what shows the same picture"
        raise ArgumentError(repr(str(path)), "one example an id", got, remedy)
    return table.drop_columns(["line"])


class _Columns(NamedTuple):
    """Names of the columns of one file; None for those it lacks."""

    picture: str
    caption: str | None
    label: str | None
    split: str | None
    id: str | None


def _choose_columns(row: Mapping[str, Any], path: Path) -> _Columns:
    """Choose the columns to read, by the names that the first row has."""

    def first(names: Sequence[str]) -> str | None:
        return next((name for name in names if name in row), None)

    picture = first(PICTURE_COLUMNS)
    found = _Columns(
        picture or "",
        first(CAPTION_COLUMNS),
        first(LABEL_COLUMNS),
        first(["split"]),
        first(["id"]),
    )
    has_text = found.caption or found.label
    if not picture or not has_text:
        wanted = PICTURE_COLUMNS if not picture else CAPTION_COLUMNS + LABEL_COLUMNS
        raise ArgumentError(
            repr(str(path)),
            f"a column {_or(wanted)}",
            ", ".join(map(repr, row)),
            "a CSV file needs a header and commas",
        )
    return found


def _cells(
    row: Mapping[str, Any], chosen: _Columns, path: Path, line: int
) -> tuple[Any, ...]:
    """Return one row's split, caption, label, picture path, line and id, if any."""
    where = f"{str(path)!r}, line {line}"
    split = _cell(row, chosen.split, where, "name")
    caption = _cell(row, chosen.caption, where, "caption")
    label = _cell(row, chosen.label, where, "label")
    picture = _cell(row, chosen.picture, where, "name")
    if picture is not None and _leads_outside(picture):
        expected = f"the path of a picture in or below {str(path.parent)!r}"
        got = f"{picture!r}, which leads out of it"
        raise ArgumentError(where, expected, got, "give paths relative to that folder")
    found = (split or ONLY_SPLIT, caption, label, picture, line)
    identifier = _cell(row, chosen.id, where, "name")
    return found if identifier is None else (*found, identifier)


def _cell(
    row: Mapping[str, Any], name: str | None, where: str, role: Role
) -> str | None:
    """Return a cell as text; None where the file has no such column."""
    if name is None:
        return None
    where = f"{where}, {name!r}"
    if name not in row:
        raise ArgumentError(where, "a value in each line", "a missing column")
    value = "" if row[name] is None else row[name]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ArgumentError(where, "text or a whole number", repr(value))
    text = str(value)
    if text == "" and role == "name":
        raise ArgumentError(where, "a name", "an empty cell")
    check_text(where, text, role)
    return text


def _leads_outside(path: str) -> bool:
    """True for absolute paths, of Windows too, and those that climb above their start.

    >>> [_leads_outside(p) for p in ("a/../b.jpg", "a/../../b.jpg", "C:/b.jpg")]
    [False, True, True]
    """
    path = path.replace("\\", "/")
    if path.startswith("/") or path[1:2] == ":":
        return True
    return ".." in path and posixpath.normpath(path).split("/")[0] == ".."


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (first line, cells by column) of each row."""
    line = 1
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True, skipinitialspace=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            if len(set(header)) < len(header):
                raise ArgumentError(
                    repr(str(path)), "each column once", ", ".join(header)
                )
            line = reader.line_num + 1
            for cells in reader:
                if len(cells) not in (0, len(header)):
                    raise ArgumentError(
                        f"{str(path)!r}, line {line}",
                        f"{len(header)} cells ({', '.join(header)})",
                        len(cells),
                        "texts with commas need double quotes",
                    )
                if cells:
                    yield line, dict(zip(header, cells, strict=True))
                line = reader.line_num + 1
        except csv.Error as error:
            where = f"{str(path)!r}, line {line}"
            raise ArgumentError(where, "a row of a CSV file", str(error)) from error


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, object) of each line that is not blank."""
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            row = parse_json(text)
            if row is None:
                where = f"{str(path)!r}, line {line}"
                raise ArgumentError(where, "a JSON object", repr(text.strip()[:60]))
            yield line, row


@contextlib.contextmanager
def _explain_unreadable(path: Path) -> Iterator[None]:
    """Turn errors of reading a file into one of its user."""
    try:
        yield
    except UnicodeError as error:
        remedy = "save it in that encoding"
        raise ArgumentError(
            repr(str(path)), "text in UTF-8", str(error), remedy
        ) from error
    except OSError as error:
        raise ArgumentError(
            repr(str(path)), "a file that can be read", error.strerror
        ) from error


def _or(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" or {names[-1]}"
