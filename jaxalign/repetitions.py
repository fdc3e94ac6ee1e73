# SPDX-License-Identifier: Apache-2.0
"""Finding keys that repeat, such as ids, among more keys than memory holds."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)

# Hashes in memory at a time, 8 bytes each, and as many again to sort them.
_BUCKET = 1 << 23
# More repeated keys than this are not looked at: a few show what is wrong.
_ENOUGH = 1000


def hash_keys(keys: Sequence[Hashable]) -> np.ndarray:
    """Hash keys to 64 bits, alike within one process only."""
    return np.fromiter(map(hash, keys), np.int64, len(keys)).view(np.uint64)


def find_repeated(
    blocks: Callable[[], Iterator[Sequence[Key]]], count: int, *, bucket: int = _BUCKET
) -> list[tuple[Key, int, int]]:
    """Find keys that come more than once, in bounded memory and several passes.

    Each pass sorts the hashes of one residue class; equal ones are compared as keys in
    a last pass.

    Args:
      blocks: starts a pass over all keys, in order.
      count: how many there are.
      bucket: about how many hashes are held at a time.

    Returns:
      (key, first place, another place) of repeated keys, a thousand at most, in the
      order of their second places.

    >>> find_repeated(lambda: iter([["a", "b"], ["c", "a"]]), 4)
    [('a', 0, 3)]
    """
    classes = max(1, -(-count // bucket))
    suspects: set[int] = set()
    for residue in range(classes):
        pieces = [np.empty(0, np.uint64)]
        for keys in blocks():
            hashes = hash_keys(keys)
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
    seen: dict[Key, int] = {}
    found: dict[Key, tuple[Key, int, int]] = {}
    row = 0
    for keys in blocks():
        # By sorting: NumPy 2.0's table of integers overflows with 64 unsigned bits.
        among = np.isin(hash_keys(keys), wanted, kind="sort")
        for index in np.flatnonzero(among).tolist():
            key, place = keys[index], row + index
            if seen.setdefault(key, place) != place:
                found.setdefault(key, (key, seen[key], place))
        row += len(keys)
    return list(found.values())[:_ENOUGH]
