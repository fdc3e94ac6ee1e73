# SPDX-License-Identifier: Apache-2.0
"""Columns by which two tables should have been paired, where position was wrong."""

from collections.abc import Sequence

from jaxalign.rows import RowSet
from jaxalign.workflows.sides import Sides

# Tables of more rows are not looked at, and so many values of one are looked for.
_MOST_ROWS, _LOOKED_FOR = 100_000, 1_000


def shared_columns(sides: Sequence[Sides]) -> list[str]:
    """Name columns of both tables with the same distinct values in another order.

    Args:
      sides: those that were paired by position are looked at, if they are parquet.

    Returns:
      The names; none where there are none, or rows were paired otherwise.
    """
    found = []
    for one in sides:
        kinds = {one.source.kind, one.target.kind}
        by_position = one.matched.source is None and not one.source.has_ids
        if kinds == {"parquet"} and by_position and len(one.target) <= _MOST_ROWS:
            found += _shared(one.source, one.target)
    return found


def _shared(source: RowSet, target: RowSet) -> list[str]:
    """Columns that two parquet files share, of the same values in another order."""
    import pyarrow.types as types

    from jaxalign.errors import ArgumentError
    from jaxalign.rows.parquet import ParquetRowSet
    from jaxalign.rows.parquet_columns import ColumnIds

    assert isinstance(source, ParquetRowSet)
    assert isinstance(target, ParquetRowSet)
    there = set(target.tables[0].schema.names)
    names = [
        field.name
        for field in source.tables[0].schema
        if field.name in there and not types.is_nested(field.type)
    ]
    found = []
    count = min(_LOOKED_FOR, len(source))
    for name in names:
        try:
            own = ColumnIds("ids", source.tables, name).read(0, count).tolist()
            other = ColumnIds("ids", target.tables, name).read(0, len(target)).tolist()
        except ArgumentError:  # nulls, or a file without it
            continue
        distinct = len(set(own)) == count and len(set(other)) == len(other)
        if distinct and set(own) <= set(other) and own != other[:count]:
            found.append(name)
    return found
