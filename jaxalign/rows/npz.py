# SPDX-License-Identifier: Apache-2.0
"""`.npz` archives: members that are stored are mapped, compressed ones read once."""

import functools
import struct
import zipfile
from typing import NamedTuple

import numpy as np

from jaxalign.errors import ArgumentError
from jaxalign.lazy_rows import Rows
from jaxalign.modality import Modality
from jaxalign.rows.flat_writer import FlatWriter, write_one_file
from jaxalign.rows.keys import choose_key
from jaxalign.rows.npy import NpyHeader, npy_header, read_any_header
from jaxalign.rows.places import Place, open_checked
from jaxalign.rows.row_set import ROWS, RowSet, check_matrix, is_floating
from jaxalign.rows.stored_matrix import stored_matrix
from jaxalign.rows.unfinished import Output, Unfinished
from jaxalign.rows.zip_member import complete_archive, local_header

# Of a zip's local header: its fixed part, and where in it the lengths of the rest are.
_LOCAL, _LENGTHS = 30, 26


class _Member(NamedTuple):
    """An array of an archive: its header, and where in the file its bytes begin."""

    info: zipfile.ZipInfo
    header: NpyHeader


class NpzRowSet(RowSet):
    """Rows of one member.

    Attributes:
      key: the member's name.
    """

    key: str

    @property
    def chosen(self) -> str:
        """The key."""
        return self.key


def open_npz(
    where: str, text: str, place: Place, key: str | None, modality: Modality | None
) -> NpzRowSet:
    """Open one member of an archive.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if there is no such member, it is no matrix of floating numbers, or it
        must be named.
    """
    members = _read_members(where, place)
    matrices = [
        name
        for name, member in members.items()
        if len(member.header.shape) == 2 and is_floating(member.header.dtype)
    ]
    chosen = choose_key(where, text, key, list(members), matrices, "array")
    header = members[chosen].header
    check_matrix(where, f"{place.base}::{chosen}", header.shape, header.dtype)
    rows = _member_rows(where, place, members[chosen])
    found = NpzRowSet(text, "npz", {modality or ROWS: rows}, places=[place])
    found.key = chosen
    return found


def create_npz(unfinished: Unfinished, like: NpzRowSet, out: Output) -> FlatWriter:
    """Start to write an archive of one array, not compressed.

    Other arrays of the input do not come along.
    """
    (name,) = out.widths
    assert out.key is not None
    member = npy_header(len(like), out.widths[name], out.dtypes[name])
    header = local_header(f"{out.key}.npy") + member
    return write_one_file(
        unfinished,
        out,
        len(like),
        header,
        functools.partial(complete_archive, name=f"{out.key}.npy"),
    )


def _read_members(where: str, place: Place) -> dict[str, _Member]:
    """Read the headers of all arrays."""
    members = {}
    with open_checked(where, place) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                for info in archive.infolist():
                    if not info.filename.endswith(".npy"):
                        continue
                    name = info.filename.removesuffix(".npy")
                    with archive.open(info) as member:
                        header = read_any_header(where, f"{place.base}::{name}", member)
                    members[name] = _Member(info, header)
        except zipfile.BadZipFile as error:
            raise ArgumentError(
                where,
                f"a NumPy archive in {place.base}",
                f"something else ({error})",
                "write it by `numpy.savez(path, rows=rows)`",
            ) from error
    return members


def _member_rows(where: str, place: Place, member: _Member) -> Rows:
    """Return the rows of a member."""
    info, header = member
    n, d = header.shape
    if info.compress_type != zipfile.ZIP_STORED:
        return _UnpackedRows(place, info.filename, (n, d), header.dtype)
    with place.open() as stream:
        stream.seek(info.header_offset + _LENGTHS)
        lengths = struct.unpack("<HH", stream.read(4))
    return stored_matrix(
        where,
        place,
        offset=info.header_offset + _LOCAL + sum(lengths) + header.offset,
        shape=(n, d),
        dtype=header.dtype,
        fortran=header.fortran,
    )


class _UnpackedRows(Rows):
    """Rows of a compressed member: all are read when the first is."""

    def __init__(self, place: Place, name: str, shape: tuple[int, int], dtype):
        super().__init__(shape, dtype)
        self._place, self._name = place, name
        self._array: np.ndarray | None = None

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return a view of what was unpacked."""
        if self._array is None:
            with (
                self._place.open() as stream,
                zipfile.ZipFile(stream) as archive,
                archive.open(self._name) as member,
            ):
                self._array = np.lib.format.read_array(member, allow_pickle=False)
        assert self._array is not None
        return self._array[start:stop]
