# SPDX-License-Identifier: Apache-2.0
"""`.safetensors` files: a tensor is mapped where it lies, bfloat16 too."""

import json
import math
import struct
from typing import Any

import ml_dtypes
import numpy as np

from jaxalign.errors import ArgumentError
from jaxalign.modality import Modality
from jaxalign.rows.flat_writer import FlatWriter, write_one_file
from jaxalign.rows.keys import choose_key
from jaxalign.rows.places import Place, open_checked
from jaxalign.rows.row_set import ROWS, RowSet, check_matrix
from jaxalign.rows.stored_matrix import stored_matrix
from jaxalign.rows.unfinished import Output, Unfinished

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
# A longer header is no header: the library has this bound too.
_LONGEST = 100_000_000


class SafetensorsRowSet(RowSet):
    """Rows of one tensor.

    Attributes:
      key: the tensor's name.
    """

    key: str

    @property
    def chosen(self) -> str:
        """The key."""
        return self.key


def open_safetensors(
    where: str, text: str, place: Place, key: str | None, modality: Modality | None
) -> SafetensorsRowSet:
    """Open one tensor of a file.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if there is no such tensor, it is no matrix of floating numbers, or it
        must be named.
    """
    tensors, start = _read_header(where, place)
    matrices = [
        name
        for name, entry in tensors.items()
        if entry["dtype"] in DTYPES and len(entry["shape"]) == 2
    ]
    chosen = choose_key(where, text, key, list(tensors), matrices, "tensor")
    entry = tensors[chosen]
    name = f"{place.base}::{chosen}"
    if entry["dtype"] not in DTYPES:
        raise ArgumentError(
            where,
            f"one of {[*DTYPES]} in {name}",
            entry["dtype"],
            "restore the values of quantised rows, and save them as F16 or F32",
        )
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    check_matrix(where, name, shape, dtype)
    first, last = entry["data_offsets"]
    if last - first != math.prod(shape) * dtype.itemsize:
        _raise_damaged(where, place, f"{last - first} bytes for {shape} {dtype}")
    rows = stored_matrix(where, place, offset=start + first, shape=shape, dtype=dtype)
    found = SafetensorsRowSet(
        text, "safetensors", {modality or ROWS: rows}, places=[place]
    )
    found.key = chosen
    return found


def create_safetensors(
    unfinished: Unfinished, like: SafetensorsRowSet, out: Output
) -> FlatWriter:
    """Start to write one tensor; other tensors of the input do not come along."""
    (name,) = out.widths
    shape, dtype = (len(like), out.widths[name]), out.dtypes[name]
    kinds = {kept.name: kind for kind, kept in DTYPES.items()}
    entry = {
        "dtype": kinds[dtype.name],
        "shape": shape,
        "data_offsets": (0, math.prod(shape) * dtype.itemsize),
    }
    text = json.dumps({out.key: entry}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = struct.pack("<Q", len(text)) + text
    return write_one_file(unfinished, out, len(like), header)


def _read_header(where: str, place: Place) -> tuple[dict[str, Any], int]:
    """Return tensors by name, and where in the file the numbers start."""
    with open_checked(where, place) as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else _LONGEST
        if length >= min(_LONGEST, place.size()):
            _raise_damaged(where, place, "a header that is longer than the file")
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            _raise_damaged(where, place, f"no JSON header ({error})")
    header.pop("__metadata__", None)
    return header, 8 + length


def _raise_damaged(where: str, place: Place, got: str) -> None:
    raise ArgumentError(
        where,
        f"a safetensors file in {place.base}",
        got,
        "copy it again, or write it by `safetensors.numpy.save_file`",
    )
