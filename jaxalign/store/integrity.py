# SPDX-License-Identifier: Apache-2.0
"""Comparing a store's files with its manifest: sizes and headers, or checksums."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.errors import ArgumentError, shorten

_BLOCK = 1 << 22


def compare_headers(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Compare sizes and `.npy` headers with the manifest; say what differs.

    Args:
      folder: the store's.
      files: relative path to bytes and, of row files, shape and dtype.

    Returns:
      A line for each file that differs.
    """
    faults = []
    for name, entry in files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError as error:
            faults.append(f"{name}: {error.strerror}")
            continue
        if size != entry["bytes"]:
            faults.append(f"{name}: {entry['bytes']} bytes expected, {size} found")
        elif "shape" in entry:
            faults.extend(_header_faults(folder / name, name, entry))
    return faults


def compare_checksums(
    folder: Path,
    files: Mapping[str, Mapping[str, Any]],
    report: Callable[[int, int], None],
) -> list[str]:
    """Hash all files; say which differ.

    Args:
      folder: the store's.
      files: relative path to bytes and sha256.
      report: called with the bytes hashed so far and all bytes.

    Returns:
      A line for each file that differs.
    """
    faults = []
    done, everything = 0, sum(entry["bytes"] for entry in files.values())
    for name, entry in files.items():
        digest = hashlib.sha256()
        try:
            with (folder / name).open("rb") as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
                    done += len(block)
                    report(done, everything)
        except OSError as error:
            faults.append(f"{name}: {error.strerror}")
            continue
        if digest.hexdigest() != entry["sha256"]:
            faults.append(
                f"{name}: sha256 {entry['sha256'][:12]}... expected, "
                f"{digest.hexdigest()[:12]}... found"
            )
    return faults


def raise_faults(call: str, faults: Sequence[str]) -> None:
    """Raise `ArgumentError` with some of the faults, if there are any."""
    if faults:
        got = f"others: {shorten(faults, most=5, separator='; ')}"
        remedy = "copy the store again, or embed into another folder"
        raise ArgumentError(call, "the files of its manifest", got, remedy)


def _header_faults(path: Path, name: str, entry: Mapping[str, Any]) -> list[str]:
    """Compare a `.npy` header with the manifest, and the size with the header."""
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        return [f"{name}: {error}"]
    found = (list(rows.shape), rows.dtype.str, bool(rows.flags.c_contiguous))
    expected = (list(entry["shape"]), entry["dtype"], True)
    if found != expected:
        return [f"{name}: shape, dtype and C order {expected} expected, {found} found"]
    return []
