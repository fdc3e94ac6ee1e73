# SPDX-License-Identifier: Apache-2.0
"""Texts of users in Matplotlib figures: taken as they are, in any script.

Matplotlib reads what stands between dollar signs as a formula, and its own font has no
Chinese, Japanese or Korean. Class names, captions and model names may hold either.
"""

import contextlib
import functools
import warnings
from collections.abc import Iterator

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

# Matplotlib's own font of boxes for whatever no other font has.
_PLACEHOLDERS = "Last Resort"


def take_texts_as_they_are(figure: Figure) -> None:
    """Read no formula in a figure's texts, and give them fonts for their characters.

    Call it when all texts are there. Powers of ten at a logarithmic axis stay formulas.
    """
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    for text in texts:
        text.set_parse_math(False)
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_formatter(), LogFormatter):
                for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                    tick.label1.set_parse_math(True)
    characters = sorted({c for text in texts for c in text.get_text()})
    family = find_family("".join(characters))
    if family is not None:
        for text in texts:
            text.set_fontfamily([*text.get_fontfamily(), family])


@functools.lru_cache(maxsize=16)
def find_family(characters: str) -> str | None:
    """Find an installed font family for what the default font lacks.

    Args:
      characters: any number of distinct ones.

    Returns:
      A family that has the most of those that are lacking; None if none is lacking, or
      no family has any.
    """
    lacking = _lacking(findfont(FontProperties()), characters)
    if not lacking:
        return None
    fonts = sorted(
        {
            (font.name, font.fname)
            for font in fontManager.ttflist
            if not font.name.startswith(_PLACEHOLDERS)
        }
    )
    best, fewest = None, len(lacking)
    for name, path in fonts:
        still = len(_lacking(path, lacking))
        if still < fewest:
            best, fewest = name, still
        if not still:
            break
    return best


def _lacking(path: str, characters: str) -> str:
    """Keep the characters that a font has no glyph for."""
    try:
        font = get_font(path)
    except (OSError, RuntimeError):  # a file that is damaged, or gone
        return characters
    return "".join(c for c in characters if c.isprintable() and not _has(font, c))


def _has(font, character: str) -> bool:
    return font.get_char_index(ord(character)) != 0


@contextlib.contextmanager
def no_glyph_warnings() -> Iterator[None]:
    """Draw without a warning for each character that no installed font has.

    In an SVG the reader's browser draws texts, with fonts of its own.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        yield
