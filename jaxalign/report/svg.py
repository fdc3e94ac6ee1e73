# SPDX-License-Identifier: Apache-2.0
"""Matplotlib figures in one style, as inline SVG in the colour of the page's text."""

import io
from collections.abc import Mapping
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from jaxalign.report.figure_texts import no_glyph_warnings, take_texts_as_they_are

# A colour that nothing else uses stands for "the colour of the page's text".
INK = "#010203"


# Okabe and Ito's palette: colour-blind readers tell it apart, on light and dark.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def finish_axes(axes: Axes, title: str, *, grid: Literal["both", "x"] = "both") -> None:
    """Give axes their title and a faint grid, and take their idle borders away."""
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(axis=grid, color=INK, alpha=0.12)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def add_legend(figure: Figure, handles: Mapping[str, Any]) -> None:
    """Put one legend above all axes of a figure: handles by their label."""
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside upper center",
        ncols=4,
        frameon=False,
        fontsize=10,
    )


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
