# SPDX-License-Identifier: Apache-2.0
"""The results file: rows of numbers as JSON, written whole or not at all."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from jaxalign.atomic_files import write_atomically
from jaxalign.errors import ArgumentError
from jaxalign.evaluate.rows import ResultRow

FORMAT = "jaxalign-results/1"

_PACKAGES = ("jaxalign", "jax", "jaxlib", "flax", "optax", "numpy", "transformers")


class Results(NamedTuple):
    """Contents of a results file."""

    rows: list[ResultRow]
    versions: dict[str, str]


def library_versions() -> dict[str, str]:
    """Give the versions that numbers depend on, and the kind of device.

    Returns:
      Package or "python" or "device" -> version or name; packages that are not
      installed (a checkout of this one) are left out.
    """
    import jax

    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    device = jax.devices()[0]
    return {**versions, "device": f"{jax.device_count()} x {device.device_kind}"}


def write_results(
    path: str | os.PathLike[str],
    rows: Iterable[ResultRow],
    *,
    versions: Mapping[str, str] | None = None,
) -> None:
    """Write rows to a JSON file, whole or not at all.

    Args:
      path: the file; missing folders are made, an older file is replaced.
      rows: the rows.
      versions: default `library_versions()`.
    """
    document = {
        "format": FORMAT,
        "versions": dict(library_versions() if versions is None else versions),
        "rows": [row.to_json() for row in rows],
    }
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text + "\n")


def read_results(path: str | os.PathLike[str]) -> Results:
    """Read a file of `write_results`.

    Args:
      path: the file.

    Returns:
      Its rows and versions.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is no results file, damaged, or of a newer format.
    """
    call, again = f"read_results({os.fspath(path)!r})", "run the experiment again"
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        got = f"something else ({error})"
        raise ArgumentError(call, "JSON", got, again) from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        upgrade = "if the file comes from a newer jaxalign, upgrade this one"
        raise ArgumentError(call, f"format {FORMAT!r}", repr(found), upgrade)
    missing = {"rows", "versions"} - set(document)
    if missing:
        raise ArgumentError(
            call, "rows and versions", f"a file without {sorted(missing)}", again
        )
    rows = [ResultRow.from_json(row) for row in document["rows"]]
    return Results(rows=rows, versions=document["versions"])
