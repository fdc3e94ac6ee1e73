# SPDX-License-Identifier: Apache-2.0
"""Files and folders, local or on any file system that `fsspec` knows.

Local paths are read without `fsspec`, so that they can be memory-mapped and need no
package beside the core.
"""

import os
import re
from pathlib import Path
from typing import Any

from jaxalign import lfs
from jaxalign.errors import ArgumentError, MissingFileError, MissingModuleError

INSTALL = "pip install 'jaxalign[rows]'"


class Place:
    """A file or a folder.

    Attributes:
      name: as the user wrote it, for errors.
      local: its path on this machine, or None if it is remote.
    """

    def __init__(self, name: str, local: Path | None, fs: Any = None, path: str = ""):
        self.name, self.local = name, local
        self._fs, self._path = fs, path

    def __repr__(self) -> str:
        return f"Place({self.name!r})"

    @property
    def base(self) -> str:
        """The last part of the name."""
        if self.local is not None:
            return self.local.name or self.local.resolve().name
        return self._path.rstrip("/").rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part of the name, without a suffix."""
        return os.path.splitext(self.base)[0]

    @property
    def suffix(self) -> str:
        """The suffix, in lower case, with its dot."""
        return os.path.splitext(self.base)[1].lower()

    def is_file(self) -> bool:
        """Whether there is such a file."""
        if self.local is not None:
            return self.local.is_file()
        return bool(self._fs.isfile(self._path))

    def is_folder(self) -> bool:
        """Whether there is such a folder."""
        if self.local is not None:
            return self.local.is_dir()
        return bool(self._fs.isdir(self._path))

    def size(self) -> int:
        """Bytes of the file."""
        if self.local is not None:
            return self.local.stat().st_size
        return int(self._fs.size(self._path))

    def identity(self) -> list[Any]:
        """Return JSON values that change when the file does, without reading it."""
        if self.local is not None:
            status = self.local.stat()
            return [self.base, status.st_size, status.st_mtime_ns]
        return [self.base, self.size(), str(self._fs.ukey(self._path))]

    def open(self) -> Any:
        """Open the file to read its bytes, from any offset."""
        if self.local is not None:
            return self.local.open("rb")
        return self._fs.open(self._path, "rb")

    def child(self, name: str) -> "Place":
        """A file or folder in this folder."""
        if self.local is not None:
            return Place(f"{self.name.rstrip('/')}/{name}", self.local / name)
        joined = f"{self._path.rstrip('/')}/{name}"
        return Place(f"{self.name.rstrip('/')}/{name}", None, self._fs, joined)

    def children(self, suffix: str) -> "list[Place]":
        """Files of the folder with a suffix, by number; hidden ones are left out."""
        if not self.is_folder():
            return []
        if self.local is not None:
            names = [entry.name for entry in self.local.iterdir() if entry.is_file()]
        else:
            entries = self._fs.ls(self._path, detail=True)
            names = [
                entry["name"].rstrip("/").rpartition("/")[2]
                for entry in entries
                if entry["type"] == "file"
            ]
        chosen = [
            name for name in names if name.endswith(suffix) and not name.startswith(".")
        ]
        return [self.child(name) for name in sorted(chosen, key=natural_key)]

    def matches(self) -> "list[Place]":
        """Files that the name, read as a glob, matches; by number."""
        if self.local is not None:
            whole = Path(os.path.abspath(self.local))
            pattern = str(whole.relative_to(whole.anchor))
            found = Path(whole.anchor).glob(pattern)
            places = [Place(str(path), path) for path in found if path.is_file()]
        else:
            places = [
                Place(self._fs.unstrip_protocol(path), None, self._fs, path)
                for path in self._fs.glob(self._path)
            ]
        return sorted(places, key=lambda place: natural_key(place.name))


def locate(where: str, text: str) -> Place:
    """Return the place of a path or URL.

    Args:
      where: the call, for errors.
      text: a path, or a URL such as ``s3://bucket/rows.npy``.

    Raises:
      ValueError: for a URL whose file system is unknown.
      MissingModuleError: if it needs a package that is not installed.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Place(text, Path(text).expanduser())
    if scheme in ("file", "local"):
        return Place(text, Path(rest))
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise missing_package(where, "fsspec", f"{scheme}://") from error
    try:
        fs, path = fsspec.core.url_to_fs(text)
    except ValueError as error:
        raise ArgumentError(
            where,
            "a path, or a URL whose file system fsspec knows",
            str(error),
            "download the file, and name its path",
        ) from error
    except ImportError as error:
        raise MissingModuleError(
            f"`{where}`: {scheme}:// needs a package of its own ({error}); install it, "
            "or download the file."
        ) from error
    return Place(text, None, fs, path)


def open_checked(where: str, place: Place) -> Any:
    """Open a file that must exist and hold contents, not a Git LFS pointer.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is a Git LFS pointer.
    """
    if not place.is_file():
        raise MissingFileError(
            f"`{where}`: there is no file {place.name!r}; check the path."
        )
    stream = place.open()
    if stream.read(len(lfs.BEGINNING)) == lfs.BEGINNING:
        stream.close()
        expected = f"the contents of {place.base}"
        raise ArgumentError(where, expected, lfs.POINTER, lfs.REMEDY)
    stream.seek(0)
    return stream


def missing_package(where: str, package: str, what: str) -> MissingModuleError:
    """Return the error for a package that a reference needs."""
    return MissingModuleError(
        f"`{where}`: reading {what} needs the package {package}; run `{INSTALL}`."
    )


def natural_key(name: str) -> list[Any]:
    """Return a key that sorts names by the numbers in them.

    >>> sorted(["part_10", "part_9", "part_08"], key=natural_key)
    ['part_08', 'part_9', 'part_10']
    """
    pieces = re.split(r"(\d+)", name)
    return [(int(piece) if odd % 2 else piece) for odd, piece in enumerate(pieces)]
