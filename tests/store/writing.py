# SPDX-License-Identifier: Apache-2.0
"""A small data set and how to write it: what the store's tests share."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np

from jaxalign.store.reader import EmbeddingStore
from jaxalign.store.writer import StoreWriter

SPACE = "f00d" * 16


@dataclasses.dataclass(frozen=True)
class Data:
    """Examples 0 to n - 1, some of them unreadable, and how a store cuts them."""

    examples: int = 11
    part_examples: int = 4
    skipped: frozenset[int] = frozenset({5})
    dtype: str = "float32"
    modalities: tuple[str, ...] = ("image", "text")
    width: int = 3

    @property
    def ids(self):
        return [f"id {i}" for i in range(self.examples) if i not in self.skipped]

    def rows(self, modality: str, examples=None) -> np.ndarray:
        """Give rows that tell example and modality."""
        kept = [
            i
            for i in (range(self.examples) if examples is None else examples)
            if i not in self.skipped
        ]
        sign = 1 if modality == "image" else -1
        rows = np.sin(np.arange(self.width) + 1.0 + np.array(kept)[:, None])
        return (sign * rows).reshape(len(kept), self.width).astype(self.dtype)

    def create(self, folder: Path, **changes) -> StoreWriter:
        arguments = {
            "space": SPACE,
            "examples": self.examples,
            "part_examples": self.part_examples,
            "modalities": {name: self.width for name in self.modalities},
            "dtype": self.dtype,
            "details": {"model": "tiny", "data": {"name": "made up", "seeds": [1, 2]}},
        }
        return EmbeddingStore.create(folder, **{**arguments, **changes})

    def append(self, writer: StoreWriter, examples: range, **changes) -> None:
        kept = [i for i in examples if i not in self.skipped]
        arguments = {
            "first": examples.start,
            "ids": [f"id {i}" for i in kept],
            "columns": {
                "caption": [f"caption {i}" for i in kept],
                "width": [i % 7 for i in kept],
                "image_path": [f"{i}.png" for i in kept],
                "label": np.array(kept, dtype=np.int32),
            },
            "examples": len(examples),
            "skipped": [
                (f"id {i}", "a torn file") for i in examples if i in self.skipped
            ],
        }
        rows = {name: self.rows(name, examples) for name in self.modalities}
        writer.append(rows, **{**arguments, **changes})

    def fill(self, writer: StoreWriter, batch: int = 2) -> None:
        """Append what is missing, in batches within parts that start at their own."""
        for gap in writer.missing():
            for first in range(gap.start, gap.stop, batch):
                self.append(writer, range(first, min(first + batch, gap.stop)))

    def write(self, folder: Path, batch: int = 2) -> EmbeddingStore:
        """Write all of it, or go on."""
        with self.create(folder) as writer:
            self.fill(writer, batch)
            return writer.finish()


def tree(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder, empty folders among them."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        if path.is_file()
        else b""
        for path in folder.rglob("*")
    }


def empty(folder: Path) -> Path:
    """Return a folder's path with nothing there."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder
