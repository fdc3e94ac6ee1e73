# SPDX-License-Identifier: Apache-2.0
"""Names in a store's folder: clip-retrieval's and autofaiss's, and our own beside them.

    img_emb/img_emb_{k}.npy  text_emb/text_emb_{k}.npy  metadata/metadata_{k}.parquet
    manifest.json            written last: the store is finished
    .unfinished/             until then: plan.json, columns.json, part-{k}.json of the
                             parts that are whole, chunks/{k}/ of those that are not,
                             tmp-{p}/ and writer-{p}.lock of process p, other locks

Row i of the three files of part k belongs together. A part without rows has no files:
embedding-reader leaves empty `.npy` files out when it pairs them with the parquet ones,
and then fails, for every later part meets its neighbour's metadata.
"""

from collections.abc import Iterable
from pathlib import Path

ROW_FOLDERS = {"image": "img_emb", "text": "text_emb"}
METADATA = "metadata"
MANIFEST = "manifest.json"
UNFINISHED = ".unfinished"


def part_file(kind: str, part: int, parts: int) -> str:
    """Name the file of a part, relative to the store's folder.

    Args:
      kind: "image", "text" or "metadata".
      part: its number, from 0.
      parts: how many parts the store has; gives the digits, int(log10(parts)) + 1.

    >>> part_file("image", 3, 10), part_file("metadata", 3, 9)
    ('img_emb/img_emb_03.npy', 'metadata/metadata_3.parquet')
    """
    stem = ROW_FOLDERS.get(kind, METADATA)
    suffix = "parquet" if kind == METADATA else "npy"
    return f"{stem}/{stem}_{part:0{len(str(parts))}d}.{suffix}"


def stray_files(folder: Path, expected: Iterable[str]) -> list[str]:
    """List row and metadata files that other readers would take for the store's."""
    expected = set(expected)
    found = (
        path.relative_to(folder).as_posix()
        for name in (*ROW_FOLDERS.values(), METADATA)
        for suffix in ("npy", "parquet")
        for path in (folder / name).rglob(f"*.{suffix}")
    )
    return sorted(set(found) - expected)
