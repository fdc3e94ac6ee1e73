# SPDX-License-Identifier: Apache-2.0
"""The table of the terminal: methods down, key metrics across, at most 100 columns."""

import textwrap
from collections.abc import Iterable

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
        [_text(column, method, of_method) for column in KEY_COLUMNS]
        for method, of_method in cells.items()
    ]
    units = [_unit(column) for column in KEY_COLUMNS]
    widths = [
        max(len(line) for line in [*column.header, unit, *(row[i] for row in body)])
        for i, (column, unit) in enumerate(zip(KEY_COLUMNS, units, strict=True))
    ]
    method_width = min(_METHOD_WIDTH, max(len("method"), *(len(m) for m in cells)))
    heads = [
        ("", [column.header[0] for column in KEY_COLUMNS]),
        ("method", [column.header[1] for column in KEY_COLUMNS]),
        ("", units),
    ]
    lines = [_line(head, texts, widths, method_width) for head, texts in heads]
    lines.append("-" * max(map(len, lines)))
    for method, texts in zip(cells, body, strict=True):
        lines.append(_line(method, texts, widths, method_width))
    if any(method in cells for method in NATIVE_METHODS):
        lines.append("")
        lines.append(f"{' and '.join(NATIVE_METHODS)}: image -> text within one model.")
    title = textwrap.fill(f"{name}: {size}" if size else name, _WIDTH)
    return "\n".join([title, "", *lines])


def _line(method: str, texts: list[str], widths: list[int], method_width: int) -> str:
    """Lay out one line; a long method name is cut with an ellipsis."""
    if len(method) > method_width:
        method = method[: method_width - 3] + "..."
    cells = [text.rjust(width) for text, width in zip(texts, widths, strict=True)]
    return _GAP.join([method.ljust(method_width), *cells]).rstrip()


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
