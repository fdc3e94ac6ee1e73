# SPDX-License-Identifier: Apache-2.0
"""JSON files that carry their own checksum, and the store's format number."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxalign.atomic_files import write_atomically

FORMAT_NAME = "jaxalign-store"
FORMAT_VERSION = 1
FORMAT = f"{FORMAT_NAME}/{FORMAT_VERSION}"


class DamagedError(ValueError):
    """A document is not what was written; its text says how."""


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
        left to `check_format`: that version may count its checksum otherwise.
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


def check_format(call: str, found: Any) -> None:
    """Refuse what is no store, and stores of other versions.

    Raises:
      ValueError: with what to do, which differs for older and newer ones.
    """
    name, _, version = str(found).partition("/")
    if name != FORMAT_NAME or not version.isdecimal():
        raise ValueError(
            f"{call}: expected format {FORMAT!r}, got {found!r}; this folder is no "
            "store of embeddings: name another."
        )
    if int(version) > FORMAT_VERSION:
        raise ValueError(
            f"{call}: expected format {FORMAT!r}, got the newer {found!r}; upgrade "
            "jaxalign with `pip install --upgrade jaxalign`."
        )
    if int(version) < FORMAT_VERSION:
        raise ValueError(
            f"{call}: expected format {FORMAT!r}, got the older {found!r}, which this "
            "jaxalign cannot read; embed again into another folder, or install the "
            "jaxalign that wrote it."
        )
