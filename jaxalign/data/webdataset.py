# SPDX-License-Identifier: Apache-2.0
"""WebDataset tar files by random access."""

import functools
import glob
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from PIL import Image

from jaxalign.data.own_examples import OwnDataset, OwnSource, own_dataset
from jaxalign.data.pictures import decode_picture, read_file
from jaxalign.data.tar_index import index_tars, key_and_kind
from jaxalign.errors import ArgumentError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")
_LIKE_RANGE = re.compile(r"[+-]?\w+\.\.[+-]?\w+(\.\.[+-]?\w+)?")


class WebDatasetSource(OwnSource):
    """Pictures that are read at their place in a tar file.

    A file is opened for each picture: that takes microseconds, needs no lock between
    threads or care when a process forks, and no set has too many files to be open.
    """

    def __init__(
        self,
        table: pa.Table,
        class_captions: tuple[str, ...],
        *,
        paths: Sequence[Path],
        files: str,
    ):
        super().__init__(table, class_captions, files)
        self._paths = paths

    def id_of(self, row: int) -> str:
        """Return the tar's stem and the sample's key."""
        key, _ = key_and_kind(self.cell("member", row))
        return f"{self._tar(row).stem}/{key}"

    def path_of(self, row: int) -> str:
        """Return the names of the tar and, as it stands there, of the member."""
        return f"{self._tar(row).name}/{self.cell('member', row)}"

    def _tar(self, row: int) -> Path:
        return self._paths[self.cell("tar", row)]

    def read_picture(self, row: int) -> Image.Image:
        """Read one picture; an `UnreadablePictureError` if that is impossible."""
        identifier = self.id_of(row)
        encoded = read_file(
            self._tar(row),
            id=identifier,
            offset=self.cell("offset", row),
            size=self.cell("size", row),
        )
        return decode_picture(encoded, id=identifier)


def open_tars(name: str, paths: Sequence[Path]) -> OwnDataset:
    """Open WebDataset tar files as one data set; its only split is "all".

    Args:
      name: the path that the user gave.
      paths: the files in order.

    Raises:
      ValueError: see `tar_index.index_tars`.
    """
    table, digest = index_tars(paths)
    make_source = functools.partial(WebDatasetSource, paths=tuple(paths), files=digest)
    return own_dataset(name, table, make_source)


def expand_pattern(pattern: str) -> list[str]:
    """Return the files of a glob pattern, of one with braces, or of both.

    Braces hold one of these; braces within braces, steps, letters and counting down,
    which some shells know, raise:

    | braces | what is taken |
    |---|---|
    | `{8..12}` | whole numbers from the first to the last, the first no larger |
    | `{08..12}` | the same, all as long as the longer one, filled up by zeros |
    | `{one,two,}` | alternatives between commas, which may be empty |

    What braces give need not exist; what stars give does.

    >>> expand_pattern("a-{08..10}.tar")
    ['a-08.tar', 'a-09.tar', 'a-10.tar']
    >>> expand_pattern("{train,val}-{0..1}.tar")
    ['train-0.tar', 'train-1.tar', 'val-0.tar', 'val-1.tar']

    Raises:
      ValueError: for any other braces.
    """
    pieces = _BRACES.split(pattern)  # text and contents of braces alternate
    choices = [
        _alternatives(piece, pattern) if number % 2 else [_plain(piece, pattern)]
        for number, piece in enumerate(pieces)
    ]
    names = map("".join, itertools.product(*choices))
    return [path for name in names for path in _existing(name)]


def _existing(name: str) -> list[str]:
    """Expand stars; a name without any is kept whether it exists or not."""
    is_pattern = glob.has_magic(name) and not os.path.exists(name)
    return sorted(glob.glob(name)) if is_pattern else [name]


def _alternatives(braces: str, pattern: str) -> list[str]:
    """Expand what stands between braces: "000..012" or "train,val"."""
    found = _RANGE.fullmatch(braces)
    if found is None:
        alternatives = braces.split(",")
        if len(alternatives) == 1 or any(map(_LIKE_RANGE.fullmatch, alternatives)):
            raise _not_taken(f"{{{braces}}}", pattern)
        return alternatives
    first, last = found.groups()
    if int(first) > int(last):
        raise _not_taken(f"{{{braces}}}", pattern)
    is_padded = any(len(n) > 1 and n.startswith("0") for n in (first, last))
    width = max(len(first), len(last)) if is_padded else 0
    return [str(number).zfill(width) for number in range(int(first), int(last) + 1)]


def _plain(text: str, pattern: str) -> str:
    """Raise over a brace without its other half."""
    if "{" in text or "}" in text:
        raise _not_taken("one within others or without its other half", pattern)
    return text


def _not_taken(got: str, pattern: str) -> ArgumentError:
    return ArgumentError(
        repr(pattern),
        "braces of the form {first..last}, whole numbers that count up, or {one,two}",
        got,
        "write out the alternatives, or use a star",
    )
