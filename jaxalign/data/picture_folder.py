# SPDX-License-Identifier: Apache-2.0
"""A folder of pictures with a CSV or JSONL file of their captions and labels."""

import functools
from pathlib import Path

import pyarrow as pa
from PIL import Image

from jaxalign.data.caption_files import read_caption_file
from jaxalign.data.own_examples import OwnDataset, OwnSource, own_dataset
from jaxalign.data.pictures import decode_picture

CAPTION_FILES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")
"""The names that a list of pictures has in its folder."""


class PictureFolderSource(OwnSource):
    """Pictures that are files of their own.

    The fingerprint covers the list, not the pictures' files: to look at millions of
    them would take minutes. A picture that is replaced under its name goes unnoticed.
    """

    def __init__(
        self, table: pa.Table, class_captions: tuple[str, ...], *, folder: Path
    ):
        super().__init__(table, class_captions, "picture folder")
        self._folder = folder

    def id_of(self, row: int) -> str:
        """Return the list's id, or else the picture's path."""
        return self.cell("id" if self.has("id") else "path", row)

    def path_of(self, row: int) -> str:
        """Return the picture's path as the list has it."""
        return self.cell("path", row)

    def read_picture(self, row: int) -> Image.Image:
        """Read one picture; an `UnreadablePictureError` if that is impossible."""
        return decode_picture(self._folder / self.path_of(row), id=self.id_of(row))


def open_picture_folder(name: str, caption_file: Path) -> OwnDataset:
    """Open the pictures that a file lists, by paths relative to the file's folder.

    Args:
      name: the path that the user gave.
      caption_file: see `caption_files.read_caption_file`.

    Raises:
      ValueError: see there.
    """
    make_source = functools.partial(PictureFolderSource, folder=caption_file.parent)
    return own_dataset(name, read_caption_file(caption_file), make_source)
