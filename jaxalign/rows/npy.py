# SPDX-License-Identifier: Apache-2.0
"""`.npy` files: one matrix, memory-mapped."""

import io
from typing import Any, NamedTuple

import numpy as np

from jaxalign.errors import ArgumentError
from jaxalign.lazy_rows import Rows
from jaxalign.modality import Modality
from jaxalign.rows.flat_writer import FlatWriter, write_one_file
from jaxalign.rows.places import Place, open_checked
from jaxalign.rows.row_set import ROWS, RowSet, check_matrix
from jaxalign.rows.stored_matrix import stored_matrix
from jaxalign.rows.unfinished import Output, Unfinished


class NpyHeader(NamedTuple):
    """What the header of an `.npy` file says.

    Attributes:
      shape: of the array.
      fortran: whether columns lie together.
      dtype: of the numbers.
      offset: bytes of the header.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    offset: int


def open_npy(where: str, text: str, place: Place, modality: Modality | None) -> RowSet:
    """Open one `.npy` file.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it holds no matrix of floating numbers.
    """
    rows = npy_rows(where, place)
    return RowSet(text, "npy", {modality or ROWS: rows}, places=[place])


def create_npy(unfinished: Unfinished, like: RowSet, out: Output) -> FlatWriter:
    """Start to write one `.npy` file."""
    (name,) = out.widths
    header = npy_header(len(like), out.widths[name], out.dtypes[name])
    return write_one_file(unfinished, out, len(like), header)


def npy_header(rows: int, width: int, dtype: np.dtype) -> bytes:
    """Return the header of a matrix, C-contiguous."""
    stream = io.BytesIO()
    header = {"descr": dtype.str, "fortran_order": False, "shape": (rows, width)}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def npy_rows(where: str, place: Place) -> Rows:
    """Return the rows of an `.npy` file, mapped if it is local."""
    with open_checked(where, place) as stream:
        header = read_npy_header(where, place.base, stream)
    n, d = header.shape
    return stored_matrix(
        where,
        place,
        offset=header.offset,
        shape=(n, d),
        dtype=header.dtype,
        fortran=header.fortran,
    )


def read_npy_header(where: str, name: str, stream: Any) -> NpyHeader:
    """Read the header of a matrix; no number is read, and nothing is unpickled.

    Args:
      where: the call, for errors.
      name: of the file or member, for errors.
      stream: at the start of the header.

    Raises:
      ValueError: if it is not the header of a matrix of floating numbers.
    """
    header = read_any_header(where, name, stream)
    check_matrix(where, name, header.shape, header.dtype)
    return header


def read_any_header(where: str, name: str, stream: Any) -> NpyHeader:
    """Read the header of any array, as `read_npy_header` does."""
    start = stream.tell()
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            found = np.lib.format.read_array_header_1_0(stream)
        else:
            found = np.lib.format.read_array_header_2_0(stream)
    except ValueError as error:
        raise ArgumentError(
            where,
            f"an array in {name}",
            f"something else ({str(error).splitlines()[0]})",
            "write it by `numpy.save(path, rows)`",
        ) from error
    return NpyHeader(*found, stream.tell() - start)
