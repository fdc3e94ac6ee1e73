# SPDX-License-Identifier: Apache-2.0
"""Matplotlib figures as inline SVG that takes the colour of the page's text."""

import io
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from jaxalign.report.figure_texts import no_glyph_warnings, take_texts_as_they_are

# A colour that nothing else uses stands for "the colour of the page's text".
INK = "#010203"


def to_svg(figure: Figure, description: str) -> str:
    """Render a figure as an SVG element that takes the page's text colour."""
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        # Element names must not depend on chance: same rows, same page.
        "svg.hashsalt": description,
    }
    for text in figure.findobj(Text):
        text.set_color(INK)  # pyright: ignore[reportAttributeAccessIssue]
    for axes in figure.axes:
        axes.tick_params(color=INK, labelcolor=INK)
        for spine in axes.spines.values():
            spine.set_edgecolor(INK)
    take_texts_as_they_are(figure)
    buffer = io.StringIO()
    with matplotlib.rc_context(settings), no_glyph_warnings():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    start, end = svg.find("<metadata>"), svg.find("</metadata>")
    if start >= 0:
        svg = svg[:start] + svg[end + len("</metadata>") :]
    return svg.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
