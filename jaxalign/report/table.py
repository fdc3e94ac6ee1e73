# SPDX-License-Identifier: Apache-2.0
"""The table of the terminal: methods down, key metrics across, at most 100 columns."""

import textwrap
from collections.abc import Iterable, Sequence

from jaxalign.evaluate.rows import ResultRow
from jaxalign.report.finding import describe_finding
from jaxalign.report.summary import (
    KEY_COLUMNS,
    NATIVE_METHODS,
    Cell,
    Cells,
    KeyColumn,
    collect,
    describe_size,
    format_value,
)

_WIDTH = 96
_METHOD_WIDTH = 31
_GAP = "  "


def format_table(
    rows: Iterable[ResultRow], *, headline: str | None = None, fit_on: str | None = None
) -> str:
    """Lay out the key metrics of all tables for a terminal.

    Args:
      rows: rows of any tables, methods and seeds; several seeds are averaged.
      headline: the method that the sentences below a table are about; None: no
        sentences.
      fit_on: modality whose rows the maps were fitted on, for those sentences.

    Returns:
      Text of at most 100 columns, without a newline at its end.
    """
    parts = []
    for name, cells in collect(rows).items():
        parts.append(_format_one(name, cells))
        if headline is not None:
            sentences = describe_finding(cells, headline, fit_on=fit_on)
            # A number and its % stay on one line.
            text = " ".join(sentences).replace(" %", "\xa0%")
            parts[-1] += "\n\n" + textwrap.fill(text, _WIDTH).replace("\xa0", " ")
    return "\n\n\n".join(part.rstrip() for part in parts)


def _format_one(name: str, cells: Cells) -> str:
    """Lay out one table."""
    size = describe_size(cells)
    body = [
        [_shorten(method), *(_text(c, method, of_method) for c in KEY_COLUMNS)]
        for method, of_method in cells.items()
    ]
    heads = [
        ["", *(column.header[0] for column in KEY_COLUMNS)],
        ["method", *(column.header[1] for column in KEY_COLUMNS)],
        ["", *(_unit(column) for column in KEY_COLUMNS)],
    ]
    lines = align_columns(heads, body)
    if any(method in cells for method in NATIVE_METHODS):
        lines.append("")
        lines.append(f"{' and '.join(NATIVE_METHODS)}: image -> text within one model.")
    title = textwrap.fill(f"{name}: {size}" if size else name, _WIDTH)
    return "\n".join([title, "", *lines])


def align_columns(
    heads: Sequence[Sequence[str]], lines: Sequence[Sequence[str]]
) -> list[str]:
    """Pad cells to columns, the first to the left, and rule off the heads."""
    first, *others = zip(*heads, *lines, strict=True)
    padded = [[text.ljust(max(map(len, first))) for text in first]]
    padded += [
        [text.rjust(max(map(len, column))) for text in column] for column in others
    ]
    texts = [_GAP.join(cells).rstrip() for cells in zip(*padded, strict=True)]
    top = texts[: len(heads)]
    return [*top, "-" * max(map(len, top)), *texts[len(heads) :]]


def _shorten(method: str) -> str:
    """Cut a long name, with an ellipsis."""
    long = len(method) > _METHOD_WIDTH
    return method[: _METHOD_WIDTH - 3] + "..." if long else method


def _unit(column: KeyColumn) -> str:
    """Unit of a column, as its third header line."""
    if column.share_metric:
        return "% (of native)"
    return "" if column.metric.endswith("cosine") else "%"


def _text(column: KeyColumn, method: str, cells: dict[str, Cell]) -> str:
    """Text of one cell: "-" where a method has no such number."""
    cell = column.cell(method, cells)
    if cell is None:
        return "-" + " " * 6 if column.share_metric else "-"
    text = format_value(column.metric, cell.value)
    if column.share_metric:
        value = column.share(cells)
        # Brackets are of one width, so that the numbers before them stand in line.
        text += " " * 6 if value is None else f" ({100 * value:3.0f})"
    return text
