# SPDX-License-Identifier: Apache-2.0
"""Ids that come twice among more ids than memory holds."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

# Hashes in memory at a time, 8 bytes each, and as many again to sort them.
_BUCKET = 1 << 23
# More repeated ids than this are not looked at: a few show what is wrong.
_ENOUGH = 1000


def stored_ids(paths: Iterable[Path]) -> Iterator[list[str]]:
    """Yield the ids in metadata files, block by block."""
    for path in paths:
        with contextlib.closing(pq.ParquetFile(path)) as opened:
            for batch in opened.iter_batches(columns=["id"]):
                yield batch.column(0).to_pylist()


def hash_ids(ids: Sequence[str]) -> np.ndarray:
    """Hash ids to 64 bits, alike within one process only."""
    return np.fromiter(map(hash, ids), np.int64, len(ids)).view(np.uint64)


def repeated_ids(
    blocks: Callable[[], Iterator[list[str]]], count: int, *, bucket: int = _BUCKET
) -> list[tuple[str, int, int]]:
    """Find ids that come more than once, in bounded memory and several passes.

    Each pass sorts the hashes of one residue class; what is equal there is compared as
    strings in a last pass.

    Args:
      blocks: starts a pass over all ids, in order.
      count: how many there are.
      bucket: about how many hashes are held at a time.

    Returns:
      (id, first row, another row) of repeated ids, a thousand at most; empty if there
      are none.

    >>> repeated_ids(lambda: iter([["a", "b"], ["c", "a"]]), 4)
    [('a', 0, 3)]
    """
    classes = max(1, -(-count // bucket))
    suspects: set[int] = set()
    for residue in range(classes):
        pieces = [np.empty(0, np.uint64)]
        for ids in blocks():
            hashes = hash_ids(ids)
            pieces.append(hashes[hashes % np.uint64(classes) == residue])
        hashes = np.concatenate(pieces)
        del pieces
        hashes.sort()
        twice = hashes[1:][hashes[1:] == hashes[:-1]]
        suspects.update(twice[:_ENOUGH].tolist())
        if len(suspects) >= _ENOUGH:
            break
    if not suspects:
        return []
    wanted = np.array(sorted(suspects), np.uint64)
    seen: dict[str, int] = {}
    found: dict[str, tuple[str, int, int]] = {}
    row = 0
    for ids in blocks():
        # By sorting: NumPy 2.0's table of integers overflows with 64 unsigned bits.
        among = np.isin(hash_ids(ids), wanted, kind="sort")
        for index in np.flatnonzero(among):
            name = ids[index]
            place = row + int(index)
            if seen.setdefault(name, place) != place:
                found.setdefault(name, (name, seen[name], place))
        row += len(ids)
    return list(found.values())[:_ENOUGH]
