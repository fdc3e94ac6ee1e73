# SPDX-License-Identifier: Apache-2.0
import html.parser
import re

import numpy as np
import pytest

from jaxalign.report import page
from jaxalign.report.gallery_items import FoundPicture, FoundText, GalleryItem
from jaxalign.report.page import write_report
from jaxalign.report.similarities import SimilarityMaps
from tests.report.result_rows import HEADLINE, make_rows

NASTY = '<script>alert("x")</script> & more'
PIXELS = np.zeros((4, 4, 3), np.uint8)
VOID = {"meta", "img", "br", "path", "use", "image", "link", "hr"}


class Page(html.parser.HTMLParser):
    """Collects tags, texts and addresses, and checks that tags are closed."""

    def __init__(self, document):
        super().__init__()
        self.open, self.tags, self.addresses, self.text = [], [], [], ""
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        keys = ("src", "href", "xlink:href", "action", "srcset")
        self.addresses += [value for key, value in attrs if key in keys]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def write(path, **changes):
    item = GalleryItem(
        PIXELS,
        NASTY,
        [FoundPicture(PIXELS, NASTY, 1.0)],
        [FoundPicture(PIXELS, "cat", 0.9)],
        [FoundText(NASTY, 0.8, True), FoundText("a dog", 0.7, False)],
    )
    arguments = {
        "title": NASTY,
        "headline": HEADLINE,
        "fit_on": "image",
        "similarities": [
            SimilarityMaps([NASTY, "b"], np.eye(2), np.eye(2), np.eye(2), table=NASTY)
        ],
        "gallery": [item],
        "remarks": [f"{NASTY} anchors", "the recipe was chosen"],
        "credit": f"{NASTY} CC BY-SA 4.0",
        "config": {"source": NASTY},
        "versions": {"jax": NASTY},
    }
    rows = make_rows() + make_rows(table="emoji that neither model saw")
    write_report(path, rows, **{**arguments, **changes})


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    write(path)
    return path.read_text(encoding="utf-8")


def test_tags_are_closed_and_parts_are_there(document):
    parsed = Page(document)
    assert parsed.open == []
    assert parsed.tags.count("svg") == 3
    assert parsed.tags.count("img") == 3
    for part in (
        "Held-out classes",
        "Emoji that neither model saw",
        "Found: one map fitted on images alone",
        "72 % of native",
        "42.0 to 48.0",
        "Gallery",
        "CC BY-SA 4.0",
        "target text",
        "Anchors and chosen map",
        "the recipe was chosen",
    ):
        assert part in parsed.text


def test_nothing_is_loaded_from_elsewhere(document):
    parsed = Page(document)
    assert "script" not in parsed.tags
    assert "link" not in parsed.tags
    for address in parsed.addresses:
        assert address.startswith(("data:image/png;base64,", "#")), address[:80]
    assert not re.search(r"url\((?!#)|@import", document)


def test_users_text_is_escaped(document):
    assert "<script" not in document
    assert Page(document).text.count(NASTY) >= 8


def test_the_correct_text_is_marked(document):
    assert document.count('<li class="correct">') == 1


def test_same_input_gives_the_same_page(tmp_path, document):
    write(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == document


def test_only_rows_are_needed(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, make_rows(), title="t", headline="no such method")
    assert Page(path.read_text(encoding="utf-8")).open == []


def test_failure_leaves_no_file(tmp_path, monkeypatch):
    def broken(maps):
        raise RuntimeError("no figure")

    monkeypatch.setattr(page, "draw_similarities", broken)
    with pytest.raises(RuntimeError, match="no figure"):
        write(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
