# SPDX-License-Identifier: Apache-2.0
"""A page from its sections: one HTML file that needs nothing else.

HTML and the style sheet are in `templates`, filled by Jinja, which escapes all texts.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2

from jaxalign.atomic_files import write_atomically

ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("jaxalign.report"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
ENVIRONMENT.filters["json"] = lambda values: json.dumps(
    dict(values), indent=1, ensure_ascii=False
)


def write_document(
    path: str | os.PathLike[str],
    title: str,
    parts: Sequence[str],
    *,
    credit: str = "",
) -> None:
    """Write a page, whole or not at all.

    Args:
      path: the file; missing folders are made, an older file is replaced.
      title: heading of the page.
      parts: sections, as HTML.
      credit: who made what is shown, and under which licence.
    """
    template = ENVIRONMENT.get_template("document.html")
    write_atomically(path, template.render(title=title, parts=parts, credit=credit))


def section(heading: str, body: str) -> str:
    """Give HTML a heading."""
    return _part("section", heading, body)


def paragraphs(texts: Iterable[str]) -> str:
    """Set plain texts as paragraphs."""
    return _part("paragraphs", texts)


def finding(text: str) -> str:
    """Set a sentence apart, as what the page has to say."""
    return _part("finding", text)


def figure(svg: str, caption: str) -> str:
    """Set a figure with its caption."""
    return _part("figure", svg, caption)


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Set a table of plain texts; the first of each line is its head."""
    return _part("table", heads, lines)


def run_section(config: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """Settings and versions."""
    return _part("run_section", config, versions)


def _part(name: str, *values: Any) -> str:
    """Fill one macro of `parts.html`."""
    return str(getattr(ENVIRONMENT.get_template("parts.html").module, name)(*values))
