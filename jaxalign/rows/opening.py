# SPDX-License-Identifier: Apache-2.0
"""`open_rows`: from a reference, as users write it, to rows."""

import os
import re
from typing import Any

from jaxalign.errors import ArgumentError, MissingFileError
from jaxalign.modality import Modality
from jaxalign.rows.folder import is_embedding_folder, open_folder
from jaxalign.rows.npy import open_npy
from jaxalign.rows.npz import open_npz
from jaxalign.rows.own_store import is_store, open_store
from jaxalign.rows.parquet import SUFFIXES, open_parquet
from jaxalign.rows.places import Place, locate
from jaxalign.rows.row_set import RowSet
from jaxalign.rows.safetensors import open_safetensors
from jaxalign.store.layout import UNFINISHED

FORMATS = (
    "rows.npy, rows.npz::key, rows.safetensors::key, rows.parquet::column, or a folder "
    "(clip-retrieval, autofaiss, parquet files, a store)"
)
_MODEL = re.compile(
    r"(?:hf-hub:|hf://|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)"
    r"(?:models/)?(?!(?:datasets|spaces|docs|papers|buckets)/)"
    r"(?P<name>[\w.-]+/[\w.-]+)(?:(?:@|/tree/)(?P<at>[^/@?#]+))?/?"
)
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib")


def open_rows(
    reference: str | os.PathLike[str],
    *,
    modality: Modality | None = None,
    id_column: str | None = None,
    call: str = "open_rows",
    argument: str = "reference",
) -> RowSet:
    """Open rows wherever they live; headers are read, rows when they are asked for.

    Args:
      reference: a path or URL that `fsspec` knows:

        - ``rows.npy``: any floating dtype and byte order, memory-mapped;
        - ``rows.npz::key`` and ``rows.safetensors::key``;
        - ``rows.parquet::column``, a column of lists; also of a glob or a folder;
        - ``folder/``, of clip-retrieval, autofaiss, or our own, all its modalities;
          ``folder/::image`` is one of them.

        With a single matrix in it, ``::key`` may be left out.
      modality: of a lone matrix, "rows" by default; of a folder it selects one.
      id_column: column that holds the rows' ids, of a parquet file or of a folder's
        metadata. Only our own stores have ids without it.
      call: the call, for errors.
      argument: its argument, for errors.

    Returns:
      The rows.

    Raises:
      FileNotFoundError: if there is no such file or folder.
      ModuleNotFoundError: if the reference needs a package that is not installed.
      ValueError: for an unknown format, pickled contents, a Git LFS pointer, a missing
        key or column, files that do not fit together, or what is no matrix of floating
        numbers.

    >>> import tempfile, numpy as np
    >>> path = tempfile.mkdtemp() + "/rows.npy"
    >>> np.save(path, np.eye(4, 2, dtype=np.float16))
    >>> rows = open_rows(path).rows["rows"]
    >>> rows.shape, rows[1:3].tolist()
    ((4, 2), [[0.0, 1.0], [0.0, 0.0]])
    """
    if not isinstance(reference, str | os.PathLike):
        raise ArgumentError(
            f"{call}({argument}={reference!r})",
            "a path or URL",
            type(reference).__name__,
            f"name {FORMATS}",
        )
    text = os.fspath(reference)
    where = f"{call}({argument}={text!r})"
    place, key = parse_reference(where, text)
    options: dict[str, Any] = {"modality": modality, "id_column": id_column}
    if place.is_folder():
        return _open_folder(where, text, place, key, **options)
    if place.suffix in SUFFIXES:
        return open_parquet(where, text, place, key, **options)
    if id_column is not None:
        raise ArgumentError(
            where,
            "a format with columns, for the ids",
            f"id_column={id_column!r}",
            "leave it out: rows of this file pair by position",
        )
    if place.suffix == ".npy":
        if key is not None:
            remedy = f"write '{place.name}'"
            raise ArgumentError(where, "an .npy file without a key", key, remedy)
        return open_npy(where, text, place, modality)
    if place.suffix == ".npz":
        return open_npz(where, text, place, key, modality)
    if place.suffix == ".safetensors":
        return open_safetensors(where, text, place, key, modality)
    _raise_unknown(where, place)
    raise AssertionError


def has_columns(reference: str, call: str = "has_columns") -> bool:
    """Whether a reference names a format that may have a column of ids.

    >>> has_columns("rows.npy"), has_columns("rows.parquet::emb")
    (False, True)
    """
    place, _ = parse_reference(f"{call}({reference!r})", reference)
    return place.suffix in SUFFIXES or place.is_folder()


def parse_reference(where: str, text: str) -> tuple[Place, str | None]:
    """Split a reference into its place and its key.

    Raises:
      ValueError: for an empty path or key, or an unknown file system.
    """
    path, separator, key = text.rpartition("::")
    if not separator or "://" in key:
        # The last is a chain of fsspec, such as simplecache::s3://bucket/rows.npy.
        path, key = text, None
    _check_is_no_model(where, text)
    if not path or key == "":
        raise ArgumentError(where, FORMATS, remedy="write a path, then '::' and a key")
    return locate(where, path), key


def _check_is_no_model(where: str, text: str) -> None:
    """Raise for a model of the hub: files in its repository are named by their path."""
    meant = _MODEL.fullmatch(text)
    if meant is None or os.path.exists(text):
        return
    name = meant["name"] + ("" if meant["at"] is None else f"@{meant['at']}")
    raise ArgumentError(
        where,
        "rows that a model made",
        f"a model, {name}",
        f"type `jaxalign fit --models={name},OTHER/MODEL --pictures=FOLDER`, or make "
        f"rows by `jaxalign embed PICTURES --models={name} --out=FOLDER`",
    )


def _open_folder(where, text, place, key, modality, id_column) -> RowSet:
    """Open a folder of any kind."""
    embeddings = is_embedding_folder(place)
    if not (is_store(place) or embeddings) and place.children(".parquet"):
        return open_parquet(where, text, place, key, modality, id_column)
    if key is not None and modality is not None and key != modality:
        raise ArgumentError(
            where,
            f"one modality, {key!r} or {modality!r}",
            "both",
            "name it once",
        )
    chosen = modality if key is None else key
    if is_store(place):
        return open_store(where, text, place, chosen, id_column)
    if place.child(UNFINISHED).is_folder():
        raise ArgumentError(
            where,
            "a finished store",
            f"one that is being written, in {place.name!r}",
            "start the command that writes it again: it resumes",
        )
    if embeddings:
        return open_folder(where, text, place, chosen, id_column)
    raise ArgumentError(
        where,
        "a folder with img_emb/, text_emb/, a manifest.json, .npy or parquet files",
        f"none of them in {place.name!r}",
        f"name {FORMATS}",
    )


def _raise_unknown(where: str, place: Place) -> None:
    """Raise over a file of an unknown format."""
    if not place.is_file():
        raise MissingFileError(
            f"`{where}`: there is no file or folder {place.name!r}; check the path."
        )
    if place.suffix in _PICKLES:
        raise ArgumentError(
            where,
            FORMATS,
            f"{place.suffix}, which holds pickled objects: they may run code, and are "
            "not read",
            "load it where you trust it, and `numpy.save('rows.npy', rows)` its rows",
        )
    raise ArgumentError(
        where,
        FORMATS,
        f"the suffix {place.suffix!r}",
        "convert it to one of these",
    )
