# SPDX-License-Identifier: Apache-2.0
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.font_manager import FontProperties, findfont, get_font

from jaxalign.report.figure_texts import find_family
from jaxalign.report.figures import draw_bars, draw_similarities
from jaxalign.report.similarities import SimilarityMaps
from jaxalign.report.summary import collect
from tests.report.result_rows import HEADLINE, make_rows

METHODS = ("none", HEADLINE, "absent")


def texts_of(svg):
    """All text elements; fails if the SVG is not well-formed."""
    root = ET.fromstring(svg)
    return [e.text for e in root.iter() if e.tag.endswith("text") and e.text]


def test_bars_name_methods_metrics_and_units():
    [cells] = collect(make_rows()).values()
    svg = draw_bars(cells, METHODS)
    texts = texts_of(svg)
    for part in ("none", HEADLINE, "cosine", "% of queries", "image cosine"):
        assert part in texts
    assert "absent" not in texts
    assert "native target (re-embedded)" in texts
    # Text takes the page's colour, and nothing is left of the colour in its place.
    assert "currentColor" in svg
    assert "#010203" not in svg


def test_same_rows_give_the_same_figure():
    [cells] = collect(make_rows()).values()
    assert draw_bars(cells, METHODS) == draw_bars(cells, METHODS)


def test_nothing_to_draw_is_no_figure():
    assert draw_bars({}, METHODS) == ""


@pytest.mark.parametrize("unmapped", [None, np.zeros((3, 3))])
def test_heat_maps_have_labels_and_a_scale(unmapped):
    table = np.eye(3)
    table[1] = np.nan
    maps = SimilarityMaps(["a", "b<", "c"], np.eye(3), table, np.eye(3), unmapped)
    texts = texts_of(draw_similarities(maps))
    for part in ("b<", "Aligned", "Target model", "mapped source image", "cosine"):
        assert part in texts
    assert ("Before: no map" in texts) == (unmapped is not None)


def test_texts_of_users_are_taken_as_they_are():
    # Dollars are no formula, and what no font has is left to the reader's browser.
    labels = ["$5 off", "a $x^ b$", "\u82f9\u679c \u0634"]
    texts = texts_of(draw_similarities(SimilarityMaps(labels, *[np.eye(3)] * 3)))
    for label in labels:
        assert label in texts


def test_an_installed_font_is_found_for_what_the_default_one_lacks():
    lacking, own = "\u20dd\u2312", "\u00e9"
    family = find_family(own + lacking)
    assert family is not None
    font = get_font(findfont(FontProperties(family)))
    assert all(font.get_char_index(ord(character)) for character in lacking)
    assert find_family(own) is None


@pytest.mark.usefixtures("no_shape_hook")
def test_tables_of_another_size_are_refused():
    with pytest.raises(ValueError, match="labels"):
        SimilarityMaps(["a"], np.eye(2), np.eye(2), np.eye(2))
