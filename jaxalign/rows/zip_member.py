# SPDX-License-Identifier: Apache-2.0
"""A zip archive of one stored member, whose checksum is written when it is known.

`zipfile` cannot go on with a member that another process began. Sizes are always in
zip64's fields, as `numpy.savez` has them, and times are those of no file: the same rows
give the same bytes.

References:
  PKWARE, "APPNOTE.TXT: .ZIP File Format Specification", version 6.3.10, 2022.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import IO

# Version 4.5 has zip64; bit 11: the name is UTF-8; 1 January 1980 is the first date.
_VERSION, _UTF8, _DATE = 45, 1 << 11, (1 << 5) | 1
_BLOCK = 1 << 22
_MAX32, _MAX16 = 0xFFFFFFFF, 0xFFFF


def local_header(name: str, crc: int = 0, size: int = 0) -> bytes:
    """Return what stands before the member's bytes; its length is always the same."""
    encoded = name.encode()
    extra = struct.pack("<HHQQ", 1, 16, size, size)
    fixed = struct.pack(
        "<4sHHHHHIIIHH",
        b"PK\3\4",
        _VERSION,
        _UTF8,
        0,
        0,
        _DATE,
        crc,
        _MAX32,
        _MAX32,
        len(encoded),
        len(extra),
    )
    return fixed + encoded + extra


def complete_archive(path: Path, *, name: str) -> None:
    """Write checksum, sizes and directory, once all bytes of the member are there.

    The file ends with the member; one that was completed before must be cut off there.
    """
    start = len(local_header(name))
    with path.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END) - start
        crc = _checksum(stream, start)
        _write_directory(stream, name, crc, size, start + size)
        stream.seek(0)
        stream.write(local_header(name, crc, size))
        stream.flush()
        os.fsync(stream.fileno())


def _checksum(stream: IO[bytes], start: int) -> int:
    """Return the CRC-32 of all bytes from `start` on."""
    stream.seek(start)
    crc = 0
    while block := stream.read(_BLOCK):
        crc = zlib.crc32(block, crc)
    return crc


def _write_directory(
    stream: IO[bytes], name: str, crc: int, size: int, offset: int
) -> None:
    """Write the directory of the archive, and the records that find it."""
    encoded = name.encode()
    extra = struct.pack("<HHQQQ", 1, 24, size, size, 0)
    entry = struct.pack(
        "<4sHHHHHHIIIHHHHHII",
        b"PK\1\2",
        _VERSION,
        _VERSION,
        _UTF8,
        0,
        0,
        _DATE,
        crc,
        _MAX32,
        _MAX32,
        len(encoded),
        len(extra),
        0,
        0,
        0,
        0,
        _MAX32,
    )
    directory = entry + encoded + extra
    end64 = struct.pack(
        "<4sQHHIIQQQQ",
        b"PK\6\6",
        44,
        _VERSION,
        _VERSION,
        0,
        0,
        1,
        1,
        len(directory),
        offset,
    )
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, offset + len(directory), 1)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, _MAX16, _MAX16, _MAX32, _MAX32, 0)
    stream.seek(offset)
    stream.write(directory + end64 + locator + end)
