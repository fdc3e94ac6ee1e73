# SPDX-License-Identifier: Apache-2.0
"""`create_rows`: a writer in the format of given rows, that resumes after a kill."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxalign.errors import ArgumentError
from jaxalign.modality import Modality
from jaxalign.rows.folder_writer import create_folder
from jaxalign.rows.npy import create_npy
from jaxalign.rows.npz import create_npz
from jaxalign.rows.parquet import SUFFIXES
from jaxalign.rows.parquet_writer import create_parquet
from jaxalign.rows.row_set import Kind, RowSet
from jaxalign.rows.row_writer import RowWriter
from jaxalign.rows.safetensors import create_safetensors
from jaxalign.rows.unfinished import Output, Unfinished, is_whole
from jaxalign.store.disk_errors import explain_unwritable

_FLOATS = ("float16", "float32", "float64")


class _Format(NamedTuple):
    """A format that can be written: suffixes of its files, and its dtypes."""

    create: Callable[..., RowWriter]
    suffixes: tuple[str, ...]
    dtypes: tuple[str, ...] = _FLOATS


_FORMATS: dict[Kind, _Format] = {
    "npy": _Format(create_npy, (".npy",)),
    "npz": _Format(create_npz, (".npz",)),
    "safetensors": _Format(
        create_safetensors, (".safetensors",), (*_FLOATS, "bfloat16")
    ),
    "parquet": _Format(create_parquet, SUFFIXES),
    "folder": _Format(create_folder, ()),
    "store": _Format(create_folder, (), ("float16", "float32")),
}


def create_rows(
    reference: str | os.PathLike[str],
    like: RowSet,
    widths: Mapping[Modality, int],
    *,
    dtype: str | np.dtype | None = None,
    job: Mapping[str, Any],
    overwrite: bool = False,
    space: str | None = None,
    call: str = "create_rows",
    argument: str = "reference",
) -> RowWriter:
    """Start to write rows in the format of others, or go on where a run was killed.

    Order, metadata and ids come along from `like`, the other columns of parquet files
    too; of an archive or a safetensors file the one array alone. The output gets its
    name when it is whole; until then it lies in a hidden folder beside it.

    Args:
      reference: of the output: a path on this machine, with the suffix of the format.
        A key is that of `like`, unless another is named.
      like: as many rows, whose format, file names and metadata the output has.
      widths: of the rows to be written, by modality of `like`.
      dtype: "float16", "float32", "float64", or "bfloat16" of a safetensors file; that
        of `like` without it.
      job: JSON values that determine the rows, such as fingerprints and options. A run
        that was killed goes on only for the same job.
      overwrite: replace an output that is there.
      space: fingerprint of the embedding space of the new rows. A store without one
        becomes a folder without a manifest.
      call: the call, for errors.
      argument: its argument, for errors.

    Returns:
      The writer.

    Raises:
      ValueError: if the output exists, is the input, has another format, or is being
        written by another process.

    Notes:
      `.npy`, `.npz`, `.safetensors` and folders resume within a file, parquet at the
      last whole file, since a row group cannot be appended to one that was cut off. A
      row group of a parquet file is in memory until it is full.
    """
    text = os.fspath(reference)
    where = f"{call}({argument}={text!r})"
    format = _FORMATS[like.kind]
    target, key = _check_target(where, text, like, format.suffixes)
    dtypes = {}
    for name, rows in like.rows.items():
        chosen = np.dtype(rows.dtype if dtype is None else _as_dtype(call, dtype))
        if chosen.name not in format.dtypes:
            raise ArgumentError(
                f"{call}(dtype={chosen.name!r})",
                f"one of {format.dtypes}, which {like.kind} can hold",
                remedy="name one of them",
            )
        dtypes[name] = chosen.newbyteorder("<")
    _check_apart(where, target, like)
    if target.exists() and not overwrite and not is_whole(target):
        _raise_exists(where, target)
    if target.exists() and overwrite:
        _check_replaceable(where, target, like)
    out = Output(dict(widths), dtypes, key, space)
    names = {name: one.name for name, one in dtypes.items()}
    whole_job = {
        "job": dict(job),
        "kind": [1, like.kind, like.chosen],
        "source": like.fingerprint(),
        "out": [out.widths, names, key, space],
    }
    with explain_unwritable(where, target.parent):
        unfinished = Unfinished(where, target, whole_job)
    try:
        named = unfinished.progress.whole and not unfinished.output.exists()
        if target.exists() and not overwrite and not named:
            _raise_exists(where, target)
        return format.create(unfinished, like, out)
    except BaseException:
        unfinished.close()
        raise


def _as_dtype(call: str, dtype: str | np.dtype) -> np.dtype:
    """Return a dtype by its name; NumPy alone does not know bfloat16."""
    if dtype == "bfloat16":
        return np.dtype(ml_dtypes.bfloat16)
    try:
        return np.dtype(dtype)
    except TypeError as error:
        raise ArgumentError(
            f"{call}(dtype={dtype!r})", f"one of {(*_FLOATS, 'bfloat16')}"
        ) from error


def _check_target(
    where: str, text: str, like: RowSet, suffixes: tuple[str, ...]
) -> tuple[Path, str | None]:
    """Return path and key of the output; raise unless it has the input's format."""
    path, separator, key = text.rpartition("::")
    if "://" in text:
        raise ArgumentError(
            where,
            "a path on this machine",
            text,
            "write to a local path, and copy the output from there",
        )
    if not separator:
        path, key = text, ""
    named = key or like.chosen
    if key and like.kind not in ("npz", "safetensors") and key != like.chosen:
        remedy = f"write '{path}'"
        raise ArgumentError(where, "an output without a key", repr(key), remedy)
    target = Path(os.path.abspath(Path(path).expanduser()))
    is_folder = not suffixes or getattr(like, "is_folder", False)
    if is_folder and target.suffix.lower() in (*SUFFIXES, ".npy", ".npz"):
        raise ArgumentError(
            where,
            f"a folder, as {like.reference!r} is several files",
            f"a file {target.name!r}",
            "name a new folder",
        )
    if not is_folder and target.suffix.lower() not in suffixes:
        raise ArgumentError(
            where,
            f"a {suffixes[0]} file, the format of {like.reference!r}",
            target.name,
            "the format that is read is the one that is written: name such a file",
        )
    return target, named


def _check_apart(where: str, target: Path, like: RowSet) -> None:
    """Raise if the output is the input, or within it."""
    for place in like.places:
        if place.local is None:
            continue
        source = Path(os.path.realpath(place.local))
        real = Path(os.path.realpath(target))
        if real == source or source in real.parents or real in source.parents:
            raise ArgumentError(
                where,
                f"a path apart from the input {str(place.local)!r}",
                str(target),
                "name another output: the input is never overwritten",
            )


def _check_replaceable(where: str, target: Path, like: RowSet) -> None:
    """Raise for a folder that holds anything but what such an output does."""
    if not target.is_dir():
        return
    known = {"img_emb", "text_emb", "metadata", "manifest.json"}
    ends = (*SUFFIXES, ".npy")
    others = [
        path.name
        for path in target.iterdir()
        if path.name not in known and path.suffix not in ends
    ]
    is_file = like.kind not in ("folder", "store") and not getattr(
        like, "is_folder", False
    )
    if others or is_file:
        raise ArgumentError(
            where,
            "an output that may be replaced",
            f"a folder that holds other things, such as {others[0]!r}"
            if others
            else "a folder",
            "name another output",
        )


def _raise_exists(where: str, target: Path) -> None:
    raise ArgumentError(
        where,
        "an output that does not exist yet",
        f"{str(target)!r}, which does",
        "name another, or pass overwrite=True to replace it",
    )
