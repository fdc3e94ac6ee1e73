# SPDX-License-Identifier: Apache-2.0
"""The report: one HTML page that needs nothing else, not even a script."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxalign.evaluate.rows import MEAN_ONLY, METRICS, NO_MAP, ResultRow
from jaxalign.report.document import ENVIRONMENT, run_section, write_document
from jaxalign.report.figures import draw_bars, draw_similarities
from jaxalign.report.finding import RIVALS, describe_finding
from jaxalign.report.gallery_items import GalleryItem, picture_data_uri
from jaxalign.report.results import library_versions
from jaxalign.report.similarities import SimilarityMaps
from jaxalign.report.summary import (
    KEY_COLUMNS,
    NATIVE_METHODS,
    Cells,
    collect,
    describe_size,
    format_value,
)

ENVIRONMENT.filters["arrow"] = lambda label: label.replace("->", "→")
ENVIRONMENT.filters["data_uri"] = picture_data_uri
ENVIRONMENT.filters["value"] = lambda value, metric: format_value(metric, value)


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
    body = ENVIRONMENT.get_template("report.html").render(
        tables=[
            _describe_table(name, cells, headline, fit_on)
            for name, cells in tables.items()
        ],
        columns=KEY_COLUMNS,
        headline=headline,
        natives=NATIVE_METHODS,
        metrics=METRICS,
        used=set().union(*map(_metrics_of, tables.values())),
        remarks=remarks,
        similarities=[(maps.table, draw_similarities(maps)) for maps in similarities],
        gallery=gallery,
    )
    versions = library_versions() if versions is None else versions
    parts = [body, run_section(config or {}, versions)]
    write_document(path, title, parts, credit=credit)


def _describe_table(
    name: str, cells: Cells, headline: str, fit_on: str | None
) -> dict[str, Any]:
    """Gather what the template shows of one table."""
    return {
        "title": name[:1].upper() + name[1:],
        "size": describe_size(cells),
        "sentences": describe_finding(cells, headline, fit_on=fit_on),
        "bars": draw_bars(cells, (NO_MAP, MEAN_ONLY, headline, *RIVALS)),
        "cells": cells,
        "metrics": _metrics_of(cells),
    }


def _metrics_of(cells: Cells) -> set[str]:
    """Names of all metrics of a table."""
    return {metric for found in cells.values() for metric in found}
