# SPDX-License-Identifier: Apache-2.0
"""Which rows of two row sets belong together: by id, or by position.

Row sets written in one pass have the same ids in the same order, which is found block
by block in constant memory. Others take memory for all their ids.
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import Int

from jaxalign.errors import ArgumentError, check_option
from jaxalign.repetitions import find_repeated
from jaxalign.rows.row_set import RowSet

Match = Literal["auto", "id", "position"]
MATCHES: tuple[Match, ...] = ("auto", "id", "position")

# Ids of so many rows are compared at a time.
_ID_ROWS = 65536


@dataclasses.dataclass(frozen=True)
class MatchedRows:
    """Which rows of two row sets belong together, in the source's order.

    Attributes:
      source: ``(n,)`` row numbers, or None where all rows pair as they lie.
      target: likewise.
      count: n.
      source_only: rows whose ids the source alone has.
      target_only: rows whose ids the target alone has.
    """

    source: Int[np.ndarray, " n"] | None
    target: Int[np.ndarray, " n"] | None
    count: int
    source_only: int = 0
    target_only: int = 0


def match_rows(
    source: RowSet, target: RowSet, *, match: Match = "auto", call: str = "match_rows"
) -> MatchedRows:
    """Find the rows of two row sets that show the same thing.

    Args:
      source: rows of the source model.
      target: rows of the target model.
      match: "id" pairs rows of equal ids, compared as strings; "position" pairs row i
        with row i; "auto" is by id where both have ids, by position where neither has.
      call: the call, for errors.

    Returns:
      The pairs.

    Raises:
      ValueError: for ids on one side only (unless `match` is "position"), an id that
        comes twice, no common id, or different numbers of rows by position.

    Notes:
      Equal ids in the same order are compared in constant memory, but for 64 bits an id
      where they may repeat.

    >>> import tempfile
    >>> from jaxalign.rows import open_rows
    >>> path = tempfile.mkdtemp() + "/rows.npy"
    >>> np.save(path, np.eye(3, dtype=np.float32))
    >>> rows = open_rows(path)
    >>> match_rows(rows, rows).count
    3
    """
    check_option(call, "match", match, MATCHES)
    sides = {"source": source, "target": target}
    lacking = [name for name, side in sides.items() if not side.has_ids]
    if match == "position" or (match == "auto" and len(lacking) == 2):
        return _by_position(call, source, target)
    if lacking:
        raise ArgumentError(
            f"{call}(match={match!r})",
            "ids of both sides",
            f"none of {' and '.join(lacking)} "
            f"({', '.join(repr(sides[name].reference) for name in lacking)})",
            "name the column that holds them (id_column), or pass match='position' if "
            "row i of both is the same example",
        )
    for name, side in sides.items():
        _check_unique(f"{call}({name}=...)", side)
    if _have_equal_ids(source, target):
        return MatchedRows(None, None, len(source))
    own, other = source.ids(), target.ids()
    assert own is not None
    assert other is not None
    _, first, second = np.intersect1d(
        own, other, assume_unique=True, return_indices=True
    )
    if not len(first):
        raise ArgumentError(
            f"{call}(source=..., target=...)",
            "ids that both sides have",
            f"none: such as {str(own[0])!r} and {str(other[0])!r}"
            if len(own) and len(other)
            else "a side without rows",
            "embed the same data with both models, or name the columns of ids that "
            "agree",
        )
    order = np.argsort(first)
    return MatchedRows(
        first[order],
        second[order],
        len(first),
        len(own) - len(first),
        len(other) - len(first),
    )


def _by_position(call: str, source: RowSet, target: RowSet) -> MatchedRows:
    """Pair row i with row i."""
    if len(source) != len(target):
        raise ArgumentError(
            f"{call}(source=..., target=...)",
            "as many target rows as source rows, to pair them by position",
            f"{len(source):,} and {len(target):,}",
            "name columns of ids, or cut both to the same examples in the same order",
        )
    return MatchedRows(None, None, len(source))


def _blocks(rows: RowSet) -> Iterator[list[str]]:
    """Yield all ids, block by block."""
    for start in range(0, len(rows), _ID_ROWS):
        ids = rows.ids(start, start + _ID_ROWS)
        assert ids is not None
        yield ids.tolist()


def _check_unique(where: str, rows: RowSet) -> None:
    """Raise over an id that comes twice."""
    if rows.has_unique_ids:
        return
    repeated = find_repeated(lambda: _blocks(rows), len(rows))
    if repeated:
        name, first, second = repeated[0]
        raise ArgumentError(
            where,
            "ids that differ",
            f"{name!r} in rows {first:,} and {second:,} of {rows.reference!r}",
            "name another column of ids, or drop the repeated rows",
        )


def _have_equal_ids(source: RowSet, target: RowSet) -> bool:
    """Whether two row sets have the same ids in the same order."""
    if len(source) != len(target):
        return False
    return all(
        own == other
        for own, other in zip(_blocks(source), _blocks(target), strict=True)
    )
