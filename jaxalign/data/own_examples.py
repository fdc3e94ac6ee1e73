# SPDX-License-Identifier: Apache-2.0
"""Examples that users bring themselves: the part common to folders and tar files.

A reader fills a table, a row an example, with the columns of `SCHEMA` and others that
say which picture it is and where; `own_dataset` makes a data set of it.
"""

import abc
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from jaxalign.data import columns
from jaxalign.data.examples import CataloguedSource, DatasetInfo

_NAMES = pa.dictionary(pa.int32(), pa.string())  # few that come again and again
SCHEMA = pa.schema(
    [
        ("split", _NAMES),
        ("caption", pa.string()),  # null where there is none
        ("label", _NAMES),  # null or "" where there is none
    ]
)

ONLY_SPLIT = "all"
"""The split of a data set that is not split."""

CLASS_TEMPLATE = "a photo of a {}."
"""The prompt of a class of the user's own, the generic one of CLIP."""


@dataclasses.dataclass(frozen=True)
class OwnDataset:
    """A data set of the user: its description, and how to open a split."""

    known: DatasetInfo
    open_split: Callable[[str], CataloguedSource]

    def info(self) -> DatasetInfo:
        """Return the description of the data set."""
        return self.known

    def load(self, split: str, data_dir: Path, /) -> CataloguedSource:
        """Open a split; `data_dir`, of prepared data sets, is not used."""
        del data_dir
        return self.open_split(split)


class OwnSource(abc.ABC):
    """Examples of a table; a subclass names them and reads the pictures."""

    def __init__(self, table: pa.Table, class_captions: tuple[str, ...], files: str):
        """Keep the rows of one split.

        Args:
          table: "label" (class numbers), "caption" unless the class decides it, and
            what the subclass needs.
          class_captions: the texts of examples that have no caption.
          files: a digest of the files that the table was read from.
        """
        self._table = table
        self._class_captions = class_captions
        self._files = files
        self._fingerprint = ""

    @property
    def fingerprint(self) -> str:
        """Hex; another one where the list, captions, labels or files differ."""
        if not self._fingerprint:
            self._fingerprint = columns.fingerprint(
                self._table, *self._class_captions, self._files
            )
        return self._fingerprint

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        row = range(len(self))[index]
        label = self.cell("label", row)
        return {
            "image": self.read_picture(row),
            "id": self.id_of(row),
            "text": self._text(row, label),
            "label": label,
            "path": self.path_of(row),
        }

    def _text(self, row: int, label: int) -> str:
        caption = self.cell("caption", row) if self.has("caption") else None
        if caption is not None:
            return caption
        return self._class_captions[label] if label >= 0 else ""

    def cell(self, name: str, row: int) -> Any:
        """Return one cell as a Python value."""
        return self._table[name][row].as_py()

    def has(self, name: str) -> bool:
        """Whether the table has such a column."""
        return name in self._table.column_names

    @abc.abstractmethod
    def id_of(self, row: int) -> str:
        """Return the id of the example."""

    @abc.abstractmethod
    def path_of(self, row: int) -> str:
        """Return where the picture lies."""

    @abc.abstractmethod
    def read_picture(self, row: int) -> Image.Image:
        """Read one picture; an `UnreadablePictureError` if that is impossible."""


def own_dataset(
    name: str,
    table: pa.Table,
    make_source: Callable[[pa.Table, tuple[str, ...]], OwnSource],
) -> OwnDataset:
    """Make a data set of a table.

    An example without a caption is captioned by the name of its class.

    Args:
      name: the path that the user gave.
      table: the columns of `SCHEMA` and those of the pictures' names and places.
      make_source: from a split's rows ("label", "caption" if any example has one, names
        and places) and the classes' captions.
    """
    class_names, labels = columns.number_classes(table["label"])
    class_captions = tuple(map(readable_class, class_names))
    by_class = table["caption"].null_count == len(table)
    unused = ["label", "caption"] if by_class else ["label"]
    rows = table.drop_columns(unused).append_column("label", labels)
    info = DatasetInfo(
        name=name,
        splits=tuple(table["split"].unique().to_pylist()),
        class_names=class_names,
        category_names=(),
        class_prompts=tuple((CLASS_TEMPLATE.format(c),) for c in class_captions),
        credit="",
        license="",
        class_captions=class_captions if by_class else None,
    )

    def load(split: str) -> CataloguedSource:
        is_all = len(info.splits) == 1
        chosen = rows if is_all else rows.filter(pc.field("split") == split)
        return make_source(chosen.drop_columns(["split"]), class_captions)

    return OwnDataset(info, load)


def readable_class(name: str) -> str:
    """Turn a label into words.

    >>> readable_class("british_shorthair")
    'british shorthair'
    """
    return name.replace("_", " ")
