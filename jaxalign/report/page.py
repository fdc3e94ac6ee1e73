# SPDX-License-Identifier: Apache-2.0
"""The report: one HTML page that needs nothing else, not even a script."""

import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from jaxalign.evaluate.rows import MEAN_ONLY, METRICS, NO_MAP, ResultRow
from jaxalign.report.document import (
    paragraphs,
    run_section,
    section,
    write_document,
)
from jaxalign.report.figures import draw_bars, draw_similarities
from jaxalign.report.finding import describe_finding
from jaxalign.report.gallery import GalleryItem, picture_data_uri
from jaxalign.report.results import library_versions
from jaxalign.report.similarities import SimilarityMaps
from jaxalign.report.summary import (
    KEY_COLUMNS,
    NATIVE_METHODS,
    Cell,
    Cells,
    collect,
    describe_size,
    format_value,
)

_RIVALS = ("ridge", "least squares", "MLP")


def write_report(
    path: str | os.PathLike[str],
    rows: Iterable[ResultRow],
    *,
    title: str,
    headline: str,
    fit_on: str | None = None,
    similarities: Sequence[SimilarityMaps] = (),
    gallery: Sequence[GalleryItem] = (),
    remarks: Sequence[str] = (),
    credit: str = "",
    config: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
) -> None:
    """Write the page, whole or not at all.

    Args:
      path: the file; missing folders are made, an older file is replaced.
      rows: rows of any tables, methods and seeds; several seeds are averaged.
      title: heading of the page.
      headline: the method the page is about.
      fit_on: modality whose rows the maps were fitted on.
      similarities: tables of image-text cosines, one figure each.
      gallery: queries and what was found for them.
      remarks: paragraphs on the anchors, and on how maps and recipes were chosen.
      credit: who made the pictures, and under which licence.
      config: settings of the run, JSON values.
      versions: default `library_versions()`.
    """
    tables = collect(rows)
    parts = [
        _table_section(name, cells, headline, fit_on) for name, cells in tables.items()
    ]
    if remarks:
        parts.append(section("Anchors and recipe", paragraphs(remarks)))
    parts += [_similarity_section(maps) for maps in similarities]
    if gallery:
        parts.append(_gallery_section(gallery))
    parts.append(_meanings_section(tables))
    versions = library_versions() if versions is None else versions
    parts.append(run_section(config or {}, versions))
    write_document(path, title, parts, credit=credit)


def _table_section(name: str, cells: Cells, headline: str, fit_on: str | None) -> str:
    """One table: what was found, key metrics, bars, all metrics."""
    sentences = describe_finding(cells, headline, fit_on=fit_on)
    finding = ""
    if sentences:
        first, rest = escape(sentences[0]), escape(" ".join(sentences[1:]))
        finding = f'<p class="finding"><strong>{first}</strong> {rest}</p>'
    methods = (NO_MAP, MEAN_ONLY, headline, *_RIVALS)
    bars = draw_bars(cells, methods)
    if bars:
        bars = (
            f"<figure>{bars}<figcaption>Before (no map, means alone) and after. "
            "A longer bar is better; whiskers are 95 % intervals; the upright "
            "marks show what the target model reaches on its own embeddings."
            "</figcaption></figure>"
        )
    return (
        f"<section><h2>{escape(_capital(name))}</h2>"
        f"<p>{escape(describe_size(cells))}.</p>{finding}"
        f"{_key_table(cells, headline)}{bars}{_full_table(cells)}</section>"
    )


def _key_table(cells: Cells, headline: str) -> str:
    """The short table, with intervals in small print."""
    heads = "".join(
        f"<th>{'<br>'.join(map(_words, column.header))}"
        f"<small>{_unit(column.metric)}</small></th>"
        for column in KEY_COLUMNS
    )
    lines = []
    for method, of_method in cells.items():
        entries = []
        for column in KEY_COLUMNS:
            cell = column.cell(method, of_method)
            share = of_method.get(column.share_metric or "")
            note = ""
            if share is not None and share.value is not None:
                note = f"{100 * share.value:.0f} % of native"
            entries.append(_entry(column.metric, cell, note))
        kind = "native" if method in NATIVE_METHODS else ""
        kind = "headline" if method == headline else kind
        head = f'<th scope="row">{escape(method)}</th>'
        lines.append(f'<tr class="{kind}">{head}{"".join(entries)}</tr>')
    return (
        '<div class="wide"><table><thead><tr><th>method</th>'
        f"{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        '<p class="how">Each row is one way to bring the source model\'s embeddings to '
        "the target model; the marked row is this map. Small print: 95 % bootstrap "
        "intervals over examples, and the standard deviation over seeds if there are "
        f"several. “{NATIVE_METHODS[0]}” and "
        f"“{NATIVE_METHODS[1]}” search image → text within one model.</p>"
    )


def _full_table(cells: Cells) -> str:
    """Every metric, behind a fold."""
    metrics = [m for m in METRICS if any(m in found for found in cells.values())]
    heads = "".join(f"<th>{escape(method)}</th>" for method in cells)
    lines = []
    for metric in metrics:
        entries = "".join(_entry(metric, c.get(metric)) for c in cells.values())
        label = f"{_words(METRICS[metric].label)} <small>{_unit(metric)}</small>"
        lines.append(f'<tr><th scope="row">{label}</th>{entries}</tr>')
    return (
        "<details><summary>All metrics</summary>"
        f'<div class="wide"><table><thead><tr><th>metric</th>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div></details>"
    )


def _entry(metric: str, cell: Cell | None, note: str = "") -> str:
    """One table cell: value, interval, note."""
    if cell is None:
        return '<td class="none">–</td>'
    text = format_value(metric, cell.value)
    small = [note] if note else []
    if cell.interval is not None:
        small.insert(0, " to ".join(format_value(metric, x) for x in cell.interval))
    if cell.std is not None:
        small.insert(1, f"± {format_value(metric, cell.std)} over seeds")
    notes = "".join(f"<small>{escape(line)}</small>" for line in small)
    return f"<td>{text}{notes}</td>"


def _similarity_section(maps: SimilarityMaps) -> str:
    """Three heat maps."""
    name = f": {escape(maps.table)}" if maps.table else ""
    return (
        f"<section><h2>Similarities of pictures and texts{name}</h2>"
        f'<figure class="wide">{draw_similarities(maps)}<figcaption>Cosine of the '
        "pictures of a class (rows) with the text of a class (columns), one colour "
        "scale for all. A bright diagonal means that pictures are nearest to their own "
        "text; the aligned table should look like the target's, and without a map the "
        "diagonal is lost.</figcaption></figure></section>"
    )


def _gallery_section(gallery: Sequence[GalleryItem]) -> str:
    """Queries and what was found for them."""
    items = []
    for item in gallery:
        texts = "".join(
            f'<li class="{"correct" if correct else ""}">{escape(text)} '
            f"<small>{score:.2f}{' ✓' if correct else ''}</small></li>"
            for text, score, correct in item.mapped_texts
        )
        items.append(
            '<div class="item">'
            f'<div class="query"><h4>query</h4>'
            f"{_picture(item.query_picture, item.query_name, None)}</div>"
            f"<div><h4>target model's own search</h4>{_strip(item.native_neighbours)}"
            f"<h4>through the map</h4>{_strip(item.mapped_neighbours)}</div>"
            f"<div><h4>texts through the map</h4><ol>{texts}</ol></div></div>"
        )
    return (
        '<section><h2>Gallery</h2><p class="how">For each picture: what the target '
        "model finds with its own embedding of it, and what is found with the source "
        "model's embedding after the map, among the target model's pictures and texts. "
        "Numbers are cosines, and ✓ marks the query's own text. The query itself is "
        "among the pictures that can be found. The map is good where the two rows "
        "agree.</p>"
        f"{''.join(items)}</section>"
    )


def _strip(found: Sequence[tuple]) -> str:
    """Pictures side by side."""
    pictures = "".join(_picture(picture, name, score) for picture, name, score in found)
    return f'<div class="strip">{pictures}</div>'


def _picture(picture, name: str, score: float | None) -> str:
    """One picture with its name and score."""
    note = "" if score is None else f"<small>{score:.2f}</small>"
    return (
        f'<figure class="picture"><img src="{picture_data_uri(picture)}" '
        f'alt="{escape(name)}" width="64" height="64">'
        f"<figcaption>{escape(name)}{note}</figcaption></figure>"
    )


def _meanings_section(tables: Mapping[str, Cells]) -> str:
    """What every metric means, behind a fold."""
    used = {m for cells in tables.values() for found in cells.values() for m in found}
    terms = "".join(
        f"<dt>{_words(metric.label)}</dt><dd>{escape(metric.meaning)}</dd>"
        for name, metric in METRICS.items()
        if name in used
    )
    return (
        "<section><h2>What the metrics mean</h2>"
        f"<details><summary>All metrics in words</summary><dl>{terms}</dl></details>"
        '<p class="how">Cosines run from -1 to 1. A high cosine alone proves little: '
        "if all rows look alike it is high and nothing can be found, so read it with "
        "the mismatched and centred cosines and with retrieval, where ties count as "
        "misses.</p></section>"
    )


def _words(label: str) -> str:
    """Escape a label and give it a real arrow."""
    return escape(label.replace("->", "→"))


def _unit(metric: str) -> str:
    """Unit of a metric in a header."""
    return "" if METRICS[metric].unit == "cosine" else "%"


def _capital(text: str) -> str:
    """Start a heading with a capital."""
    return text[:1].upper() + text[1:]
