# SPDX-License-Identifier: Apache-2.0
"""Writing folders of clip-retrieval and autofaiss, and our own stores.

Parts keep their names. One without rows has no files at all: embedding-reader leaves
empty `.npy` files out when it pairs them with metadata, and would pair every later part
with its neighbour's. Metadata are copied byte by byte.
"""

import dataclasses
import functools
import hashlib
import shutil
from pathlib import Path

from jaxalign.atomic_files import open_atomically
from jaxalign.rows.flat_writer import FlatWriter, Segment
from jaxalign.rows.folder import FolderRowSet
from jaxalign.rows.npy import npy_header
from jaxalign.rows.own_store import StoreRowSet
from jaxalign.rows.places import Place
from jaxalign.rows.unfinished import Output, Unfinished

_BLOCK = 1 << 22


def create_folder(
    unfinished: Unfinished, like: FolderRowSet | StoreRowSet, out: Output
) -> FlatWriter:
    """Start to write a folder with the parts of another, or a store."""
    place, parts = like.place, like.parts
    segments = [
        Segment(
            part.rows,
            part.files,
            {
                name: npy_header(part.rows, out.widths[name], out.dtypes[name])
                for name in part.files
            },
        )
        for part in parts
    ]

    def complete(output: Path) -> None:
        output.mkdir(exist_ok=True)
        for part in parts:
            if part.metadata is not None:
                _copy(place.child(part.metadata), output / part.metadata)
        if isinstance(like, StoreRowSet) and out.space is not None:
            _write_manifest(output, like, out)

    return FlatWriter(unfinished, out, segments, complete)


def _copy(source: Place, target: Path) -> None:
    """Copy a file, whole or not at all."""
    with source.open() as stream, open_atomically(target) as copy:
        shutil.copyfileobj(stream, copy, _BLOCK)


def _write_manifest(output: Path, like: StoreRowSet, out: Output) -> None:
    """Declare the output a finished store of another space."""
    from jaxalign.store.manifest import Manifest, write_manifest

    manifest = like.store.manifest
    plan = manifest.plan
    (dtype,) = {one.name for one in out.dtypes.values()}
    plan = dataclasses.replace(
        plan,
        space=out.space,
        dtype=dtype,
        modalities={name: out.widths[name] for name in sorted(out.widths)},
        details={**plan.details, "carried_from": plan.space},
    )
    records = []
    for number, record in enumerate(manifest.parts):
        files = {}
        for kind, name in plan.part_files(number).items() if record.rows else ():
            files[name] = _entry(output / name)
            if kind in out.widths:
                files[name]["shape"] = [record.rows, out.widths[kind]]
                files[name]["dtype"] = out.dtypes[kind].str
        records.append(record._replace(files=files))
    write_manifest(output, Manifest(plan, manifest.columns, records))


def _entry(path: Path) -> dict:
    """Return a file's size and checksum."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(functools.partial(stream.read, _BLOCK), b""):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}
