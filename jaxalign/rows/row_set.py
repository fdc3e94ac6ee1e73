# SPDX-License-Identifier: Apache-2.0
"""`RowSet`: the rows that a reference names, by modality, and their ids."""

import abc
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from jaxalign.errors import ArgumentError
from jaxalign.lazy_rows import ArrayRows, JoinedRows, Rows, join_rows
from jaxalign.modality import Modality
from jaxalign.rows.places import Place

__all__ = ["ArrayRows", "Ids", "JoinedRows", "Kind", "RowSet", "Rows", "join_rows"]

Kind = Literal["npy", "npz", "safetensors", "parquet", "folder", "store"]

ROWS: Modality = "rows"
"""Modality of a matrix that comes without a name."""


class Ids(abc.ABC):
    """Where ids are read from.

    Attributes:
      unique: whether they are known to differ.
    """

    unique: bool

    @abc.abstractmethod
    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the ids of rows ``start`` to ``stop``, ``(m,)`` strings."""


class RowSet:
    """Rows that lie together: row i of every modality is one example.

    Attributes:
      reference: as the user gave it.
      kind: the format.
      rows: `Rows` by modality, all of one length.
      space: fingerprint of the rows' embedding space, or None if unknown.
      places: its files and folders.
    """

    def __init__(
        self,
        reference: str,
        kind: Kind,
        rows: Mapping[Modality, Rows],
        *,
        places: Sequence[Place],
        identity: list[Any] | None = None,
        space: str | None = None,
        ids: Ids | None = None,
    ):
        self.reference = reference
        self.kind: Kind = kind
        self.space = space
        self.rows: dict[Modality, Rows] = dict(rows)
        self.places = list(places)
        self._identity, self._ids = identity, ids

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    def __repr__(self) -> str:
        widths = ", ".join(
            f"{name} {rows.shape[1]} {rows.dtype}" for name, rows in self.rows.items()
        )
        return f"RowSet({self.reference!r}: {len(self):,} rows, {widths})"

    @property
    def chosen(self) -> str | None:
        """The key or column that was opened, of formats that have several."""
        return None

    @property
    def modalities(self) -> list[Modality]:
        """Modalities that every example has rows of."""
        return list(self.rows)

    @property
    def has_ids(self) -> bool:
        """Whether rows have ids."""
        return self._ids is not None

    @property
    def has_unique_ids(self) -> bool:
        """Whether ids are known to differ, without a look at them."""
        return self._ids is not None and self._ids.unique

    def ids(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """Return ids of rows, ``(m,)`` strings; None if there are none.

        Args:
          start: the first row, as in a slice.
          stop: the end, as in a slice.

        Raises:
          ValueError: if a row has no id.
        """
        if self._ids is None:
            return None
        begin, end, _ = slice(start, stop).indices(len(self))
        return self._ids.read(begin, max(begin, end))

    def fingerprint(self) -> str:
        """Hash of names, sizes, times and headers of the files: no row is read.

        A job that was interrupted goes on only if its input is the same by this.
        """
        shapes = {
            name: [*rows.shape, rows.dtype.name, rows.dtype.byteorder]
            for name, rows in self.rows.items()
        }
        files = self._identity
        if files is None:
            files = [place.identity() for place in self.places if place.is_file()]
        document = [self.kind, files, self.chosen, shapes]
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def check_matrix(
    where: str, name: str, shape: tuple[int, ...], dtype: np.dtype
) -> None:
    """Raise unless an array is a matrix of floating numbers.

    Args:
      where: the call, for errors.
      name: of the array or file, for errors.
      shape: of the array.
      dtype: of the array.
    """
    if dtype.hasobject:
        raise ArgumentError(
            where,
            f"numbers in {name}",
            "pickled Python objects, which are not read: they may run code",
            "save it again by `numpy.save(path, rows.astype(numpy.float32))`",
        )
    if len(shape) != 2:
        raise ArgumentError(
            where,
            f"a matrix (n, d) in {name}",
            f"shape {tuple(shape)}",
            "store one embedding a row",
        )
    if is_floating(dtype):
        return
    remedy = "save the rows as float16 or float32"
    if dtype.kind in "iub":
        remedy = "if they are quantised, restore their values first: multiply by scale"
    raise ArgumentError(where, f"floating numbers in {name}", dtype, remedy)


def is_floating(dtype: np.dtype) -> bool:
    """Whether numbers are real and floating; bfloat16 comes from another package."""
    return np.issubdtype(dtype, np.floating) or dtype.name == "bfloat16"


def check_widths(where: str, pieces: Mapping[str, Rows]) -> None:
    """Raise unless pieces, by file name, have one width and dtype.

    A piece without rows may have any.
    """
    filled = {name: rows for name, rows in pieces.items() if len(rows)}
    for name in filled:
        first = next(iter(filled))
        one, other = filled[first], filled[name]
        for what, a, b in (
            ("width", one.shape[1], other.shape[1]),
            ("dtype", one.dtype, other.dtype),
        ):
            if a != b:
                raise ArgumentError(
                    where,
                    f"rows of one {what} in all files",
                    f"{a} in {first} and {b} in {name}",
                    "the files are of different models or runs: name one run's alone",
                )
