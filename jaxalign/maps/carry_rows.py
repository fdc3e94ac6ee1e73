# SPDX-License-Identifier: Apache-2.0
"""Carrying rows of an array into one `.npy` file."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.errors import ArgumentError, check_option, check_path
from jaxalign.float_rows import check_float_rows
from jaxalign.lazy_rows import Rows, as_rows
from jaxalign.maps.alignment_map import AlignmentMap, check_map
from jaxalign.maps.carry import carry
from jaxalign.rows.places import Place
from jaxalign.rows.row_set import RowSet

DTYPES = ("float16", "float32")


def carry_rows(
    amap: AlignmentMap,
    rows: Float[ArrayLike, "n d_source"] | Rows,
    path: str | os.PathLike[str],
    modality: Modality | None = None,
    *,
    space: str | None = None,
    normalize: bool = True,
    normalize_input: bool = False,
    dtype: str = "float32",
    batch_size: int = 8192,
    report: Callable[[int], None] = lambda done: None,
) -> Path:
    """Carry rows to the target space and write them as one `.npy` file; see `carry`.

    Args:
      amap: the map.
      rows: shape ``(n, d_source)``, floating; best mapped from a file by
        ``numpy.load(..., mmap_mode="r")`` or `EmbeddingStore.rows`.
      path: of the `.npy` file to write; an older one is replaced.
      modality: of the rows; may be left out where the map holds one alone.
      space: fingerprint of the space of `rows`; checked if the map knows its own.
      normalize: divide each row that comes out by its norm, as cosine indexes want.
      normalize_input: bring each row to the norm of the anchors first, see
        `AlignmentMap`.
      dtype: of the file, "float16" or "float32".
      batch_size: rows a step.
      report: told the rows written so far.

    Returns:
      The path.

    Raises:
      ValueError: for another dtype, a batch without rows, no row, entries that are out
        of the range of float16, or as the map does (norms unlike those of the anchors
        are met batch by batch). Then no file appears.

    Notes:
      A row that is not finite, or is zero, comes out as NaN, which no search finds.

    >>> import tempfile, jaxalign as ja
    >>> rows = np.eye(3, dtype=np.float32)
    >>> amap = ja.fit_map((rows, rows))
    >>> path = carry_rows(amap, rows, tempfile.mkdtemp() + "/rows.npy")
    >>> np.load(path).shape
    (3, 3)
    """
    check_option("carry_rows", "dtype", dtype, DTYPES, remedy="float16 halves the file")
    target = check_path("carry_rows", "path", path)
    check_map("carry_rows", "amap", amap)
    if isinstance(rows, Rows):
        lazy, identity = rows, None
    else:
        array = check_float_rows("carry_rows", "rows", rows, width=amap.d_source)
        lazy, identity = as_rows(array), _file_of(array)
    if not len(lazy):
        raise ArgumentError(
            "carry_rows(rows=...)",
            f"one row or more of shape (n, {amap.d_source})",
            "none",
            "read a file by `numpy.load(path, mmap_mode='r')`",
        )
    modality = amap.check_modality("carry_rows(modality={})", modality)
    places = [] if identity is None else [Place(identity[0], Path(identity[0]))]
    source = RowSet(
        "rows",
        "npy",
        {modality: lazy},
        places=places,
        # Rows in memory are known to no later run.
        identity=[uuid.uuid4().hex] if identity is None else identity,
        space=space,
    )
    carry(
        amap,
        source,
        target,
        dtype=dtype,
        normalize=normalize,
        normalize_input=normalize_input,
        batch_size=batch_size,
        overwrite=True,
        report=report,
        call="carry_rows",
    )
    return target


def _file_of(array: ArrayLike) -> list[Any] | None:
    """Return what identifies mapped rows, or None for rows in memory."""
    if not isinstance(array, np.memmap) or array.filename is None:
        return None
    status = os.stat(array.filename)
    start = array.__array_interface__["data"][0]
    mapped = array
    while isinstance(mapped.base, np.ndarray):
        mapped = mapped.base
    offset = start - mapped.__array_interface__["data"][0]
    return [
        str(array.filename),
        status.st_size,
        status.st_mtime_ns,
        int(offset),
        list(array.strides),
    ]
