# SPDX-License-Identifier: Apache-2.0
"""OpenMoji as the catalog offers it: its examples and their description.

Examples have more keys than those of `examples.py`:

| key | value |
|---|---|
| `emoji`, `name`, `keywords` | file stem, CLDR name, keywords joined by ", " |
| `category` | int, an index into `DatasetInfo.category_names` |
| `subgroup` | the label's class name |
| `concept` | str, alike for all variants of one emoji |
| `rendering`, `style`, `background` | str: how the picture was drawn |
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.data import openmoji_table, openmoji_texts
from jaxalign.data.examples import CataloguedSource, DatasetInfo
from jaxalign.data.pictures import decode_picture


@dataclasses.dataclass(frozen=True)
class OpenMojiSet:
    """All of OpenMoji, or about 200 of its emoji.

    Attributes:
      name: in the catalog.
      tiny: whether it is the small one.
    """

    name: str
    tiny: bool

    def info(self) -> DatasetInfo:
        """Return the description of the data set, without preparing it."""
        classes = openmoji_table.subgroups()
        return DatasetInfo(
            name=self.name,
            splits=tuple(openmoji_table.SPLITS),
            class_names=classes,
            category_names=openmoji_table.categories(),
            class_prompts=tuple(map(tuple, openmoji_texts.class_prompts(classes))),
            credit=openmoji_table.CREDIT,
            license=openmoji_table.LICENSE,
        )

    def load(self, split: str, data_dir: Path) -> CataloguedSource:
        """Open a split, drawing the data set on first use."""
        # TFDS takes a second to import.
        from jaxalign.data import openmoji

        records = openmoji.open_split(data_dir, split, tiny=self.tiny)
        version = f"{openmoji.OpenMoji.VERSION} {openmoji_texts.caption('')}"
        digest = hashlib.sha256(f"{self.name} {split} {version}".encode()).hexdigest()
        return _OpenMojiSource(records, openmoji_table.subgroups(), digest)


class _OpenMojiSource:
    """Examples of one OpenMoji split, decoded on access."""

    def __init__(self, records: Any, class_names: Sequence[str], fingerprint: str):
        self._records = records
        self._class_names = class_names
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        # Iteration by index ends at IndexError, which the records do not raise.
        record: Mapping[str, Any] = self._records[range(len(self))[index]]
        example = {
            key: value.decode() if isinstance(value, bytes) else value
            for key, value in record.items()
            if key not in ("image", "subgroup", "category")
        }
        image = decode_picture(record["image"], id=example["id"])
        example["image"] = np.asarray(image.convert("RGB"))
        example["text"] = openmoji_texts.caption(example["name"])
        example["label"] = int(record["subgroup"])
        example["category"] = int(record["category"])
        example["subgroup"] = self._class_names[example["label"]]
        example["thing"] = example["name"]
        example["is_query"] = example["rendering"] == "plain"
        return example


OPENMOJI_SETS = {
    found.name: found
    for found in (
        OpenMojiSet("openmoji", tiny=False),
        OpenMojiSet("openmoji/tiny", tiny=True),
    )
}
"""By name."""
