# SPDX-License-Identifier: Apache-2.0
"""A page from its sections: one HTML file that needs nothing else."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from jaxalign.atomic_files import write_atomically
from jaxalign.report.style import STYLE


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
    body = [f"<h1>{escape(title)}</h1>", *parts]
    if credit:
        body.append(f"<footer><p>{escape(credit)}</p></footer>")
    document = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )
    write_atomically(path, document)


def section(heading: str, body: str) -> str:
    """Give HTML a heading."""
    return f"<section><h2>{escape(heading)}</h2>{body}</section>"


def paragraphs(texts: Iterable[str]) -> str:
    """Set plain texts as paragraphs."""
    return "".join(f"<p>{escape(text)}</p>" for text in texts)


def finding(text: str) -> str:
    """Set a sentence apart, as what the page has to say."""
    return f'<p class="finding"><strong>{escape(text)}</strong></p>'


def figure(svg: str, caption: str) -> str:
    """Set a figure with its caption."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Set a table of plain texts; the first of each line is its head."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(line[0])}</th>'
        + "".join(f"<td>{escape(entry)}</td>" for entry in line[1:])
        + "</tr>"
        for line in lines
    )
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def run_section(config: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """Settings and versions."""
    settings = {"settings": config, "versions": versions}
    return (
        "<section><h2>How this was made</h2>"
        + "".join(
            f"<h3>{name}</h3><pre>"
            f"{escape(json.dumps(dict(values), indent=1, ensure_ascii=False))}</pre>"
            for name, values in settings.items()
            if values
        )
        + "</section>"
    )
