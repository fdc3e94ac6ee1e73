# SPDX-License-Identifier: Apache-2.0
"""JSON files that carry their own checksum, and the store's format number."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxalign.atomic_files import write_atomically
from jaxalign.errors import ArgumentError, UserError

FORMAT_NAME = "jaxalign-store"
FORMAT_VERSION = 1
FORMAT = f"{FORMAT_NAME}/{FORMAT_VERSION}"


class DamagedError(UserError, ValueError):
    """A file of a store is not what was written; the text says how."""


def digest(document: Mapping[str, Any]) -> str:
    """Hash the canonical JSON of everything but the checksum itself.

    >>> digest({"b": 1, "a": [], "sha256": "any"}) == digest({"a": [], "b": 1})
    True
    """
    rest = {name: value for name, value in document.items() if name != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_document(
    path: Path,
    document: Mapping[str, Any],
    *,
    temporary_folder: str | os.PathLike[str] | None = None,
) -> None:
    """Write a document and its checksum, whole or not at all."""
    whole = {**document, "sha256": digest(document)}
    text = json.dumps(whole, sort_keys=True, indent=1, allow_nan=False) + "\n"
    write_atomically(path, text, temporary_folder=temporary_folder)


def read_document(path: Path) -> dict[str, Any]:
    """Read a document, without its checksum.

    Raises:
      FileNotFoundError: if there is none.
      DamagedError: if it is not what was written. A `format` of another version is
        left to `load_document`: that version may compute its checksum differently.
    """
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise DamagedError(f"no JSON in {path.name} ({error})") from error
    if not isinstance(document, dict):
        raise DamagedError(f"no JSON object in {path.name}")
    stored = document.pop("sha256", None)
    if document.get("format", FORMAT) == FORMAT and stored != digest(document):
        raise DamagedError(f"a {path.name} whose checksum fails")
    return document


def load_document(call: str, path: Path) -> dict[str, Any] | None:
    """Read a document of this version; None if there is none.

    Raises:
      ValueError: if it is damaged, of another version or not a store's.
    """
    try:
        document = read_document(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DamagedError as error:
        remedy = "copy the folder again, or embed into another one"
        raise ArgumentError(call, "a whole store", str(error), remedy) from error
    _check_format(call, document.get("format"))
    return document


def _check_format(call: str, found: Any) -> None:
    """Raise over a folder that is not a store, or a store of another version."""
    name, _, version = str(found).partition("/")
    got = repr(found)
    if name != FORMAT_NAME or not version.isdecimal():
        remedy = "this folder is not a store of embeddings: name another"
    elif int(version) > FORMAT_VERSION:
        got = f"the newer {got}"
        remedy = "upgrade jaxalign with `pip install --upgrade jaxalign`"
    elif int(version) < FORMAT_VERSION:
        got = f"the older {got}, which this jaxalign cannot read"
        remedy = "embed into another folder, or install the jaxalign that wrote it"
    else:
        return
    raise ArgumentError(call, f"format {FORMAT!r}", got, remedy)
