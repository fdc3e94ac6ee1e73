# SPDX-License-Identifier: Apache-2.0
"""The manifest: contents of a finished store, with sizes and checksums.

Times, hosts and numbers of processes are not in it: the same data give the same bytes,
whoever wrote them and however often the run was interrupted.
"""

import dataclasses
import itertools
import os
from pathlib import Path
from typing import Any

from jaxalign.store.documents import digest, load_document, write_document
from jaxalign.store.incoming import order_columns
from jaxalign.store.layout import MANIFEST
from jaxalign.store.parts import PartRecord
from jaxalign.store.plan import Plan


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A finished store.

    Attributes:
      plan: what it was made for.
      columns: names and types of the metadata, "string" or "int64".
      parts: one record a part, in order; one without rows has no files.
    """

    plan: Plan
    columns: dict[str, str]
    parts: list[PartRecord]

    @property
    def rows(self) -> int:
        """Number of rows of all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """Hash of the model, the order of the files and every byte in them."""
        files = {name: entry["sha256"] for name, entry in self.files.items()}
        return digest({"space": self.plan.space, "files": files})

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """All files: relative path to what is known of each."""
        return {
            name: entry for part in self.parts for name, entry in part.files.items()
        }


def write_manifest(
    folder: Path,
    manifest: Manifest,
    *,
    temporary_folder: str | os.PathLike[str] | None = None,
) -> None:
    """Write `manifest.json`: the store is finished."""
    document = {
        **manifest.plan.to_document(),
        "rows": manifest.rows,
        "columns": manifest.columns,
        "skipped": [
            {"id": name, "reason": reason}
            for part in manifest.parts
            for name, reason in part.skipped
        ],
        "parts": [
            {"rows": part.rows, "skipped": len(part.skipped), "files": part.files}
            for part in manifest.parts
        ],
    }
    write_document(folder / MANIFEST, document, temporary_folder=temporary_folder)


def read_manifest(call: str, folder: Path) -> Manifest | None:
    """Read `manifest.json`; None if there is none.

    Raises:
      ValueError: if it is damaged, of another version or not a store's.
    """
    document = load_document(call, folder / MANIFEST)
    if document is None:
        return None
    skipped = iter(document["skipped"])
    return Manifest(
        plan=Plan.from_document(document),
        columns=order_columns(document["columns"]),
        parts=[
            PartRecord(
                rows=part["rows"],
                files=part["files"],
                skipped=[
                    [entry["id"], entry["reason"]]
                    for entry in itertools.islice(skipped, part["skipped"])
                ],
            )
            for part in document["parts"]
        ],
    )
