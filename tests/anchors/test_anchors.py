# SPDX-License-Identifier: Apache-2.0
"""Rows and options are refused before any arithmetic, each in one clear sentence."""

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.anchors.inspection import as_float

ROWS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def _with(row, value):
    rows = ROWS.copy()
    rows[row] = value
    return rows


def test_good_rows_pass_untouched_and_print():
    anchors = ja.Anchors(
        {"image": (ROWS, ROWS[:, :2]), "text": (ROWS[:2], ROWS[:2, :2])},
        unpaired={"sound": (ROWS, ROWS[:3, :2])},
    )
    assert anchors.rows["image"].source is ROWS
    assert (anchors.widths, anchors.modalities) == ((3, 2), ["image", "text"])
    assert repr(anchors) == (
        "Anchors(3 -> 2; image: 4 pairs; text: 2 pairs; sound: 4 and 3 unpaired rows)"
    )
    assert ja.Anchors((ROWS, ROWS)).modalities == ["rows"]


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (ROWS, r"\(source, target\), got ndarray"),
        ((ROWS, ROWS[:3]), r"got \(4, 3\) and \(3, 3\)"),
        ((ROWS[0], ROWS[0]), "source"),
        ((ROWS[:1], ROWS[:1]), "got 1"),
        ((_with(2, np.nan), ROWS), "finite.*1 source.*row 2"),
        ((ROWS, _with(1, np.inf)), "finite.*1 target.*row 1"),
        ((_with(3, np.nan), _with([1, 2], np.inf)), "1 source.*row 3.*2 target.*row 1"),
        ((ROWS, _with([0, 3], 0.0)), "nonzero.*2 target.*row 0"),
        ((ROWS.astype(int), ROWS), "source.*int64"),
        ((ROWS, ROWS + 1j), "target.*complex"),
        ((ROWS * np.float32(1e30), ROWS), "normalise"),
    ],
)
def test_wrong_rows_name_their_side(sides, message, no_shape_hook):
    with pytest.raises(ValueError, match=message):
        ja.Anchors({"image": sides})


@pytest.mark.parametrize(
    "pairs", [{}, {"all": (ROWS, ROWS)}, ROWS, {1: (ROWS, ROWS), "a": (ROWS, ROWS)}]
)
def test_pairs_are_a_pair_or_a_dictionary_by_modality(pairs, no_shape_hook):
    with pytest.raises(ValueError, match=r"`Anchors\(pairs=.*expected"):
        ja.Anchors(pairs)


def test_modalities_share_their_widths():
    pairs = {"image": (ROWS, ROWS), "text": (ROWS, ROWS[:, :2])}
    with pytest.raises(ValueError, match=r"'text'.*widths \(3, 3\).*got \(3, 2\)"):
        ja.Anchors(pairs)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"weights": {"image": np.ones(3)}}, r"weights\['image'\]"),
        ({"weights": {"image": -np.ones(4)}}, "leaves an anchor out"),
        ({"weights": {"image": np.eye(4)[0]}}, "two or more of them positive.*1 pos"),
        ({"weights": {"audio": np.ones(4)}}, "weights.*audio"),
        ({"weights": np.ones(5)}, r"weights\['image'\]"),
        ({"groups": {"image": np.ones(7, int)}}, r"groups\['image'\]"),
        ({"groups": {"image": np.full(4, None)}}, r"groups\['image'\].*object"),
        ({"ids": {"image": np.linspace(0, 1, 4)}}, r"ids\['image'\].*float64"),
        ({"unpaired": {"image": (ROWS, ROWS)}}, r"unpaired\['image'\]"),
        ({"unpaired": {"text": (ROWS, ROWS[:, :2])}}, r"unpaired\['text'\].*widths"),
        ({"unpaired": {"text": (ROWS[:1], ROWS)}}, r"unpaired\['text'\]"),
        ({"unpaired": [ROWS, ROWS]}, "unpaired"),
        ({"unpaired": {1: (ROWS, ROWS), "b": (ROWS, ROWS)}}, "unpaired"),
        ({"source_space": 3}, "source_space"),
        ({"target_space": b"bytes"}, "target_space"),
    ],
)
def test_what_does_not_fit_the_rows_names_its_argument(options, match):
    with pytest.raises(ValueError, match=match):
        ja.Anchors({"image": (ROWS, ROWS)}, **options)


def test_bad_rows_are_left_out_on_request():
    anchors = ja.Anchors(
        (_with(2, np.nan), ROWS), ids=np.array(list("abcd")), skip_bad=True
    )
    rows = anchors.rows["rows"]
    assert (rows.skipped, rows.count) == (1, 3)
    np.testing.assert_array_equal(rows.mask, [1, 1, 0, 1])
    host = anchors.on_host().rows["rows"]
    np.testing.assert_array_equal(host.target, ROWS[[0, 1, 3]])
    assert host.ids.tolist() == list("abd")
    assert host.labels is host.ids
    with pytest.raises(ValueError, match="at least 2 anchors"):
        ja.Anchors((_with([0, 1, 2], np.nan), ROWS), skip_bad=True)


def test_half_precision_is_widened():
    assert as_float(ROWS.astype(np.float16)).dtype == np.float32
