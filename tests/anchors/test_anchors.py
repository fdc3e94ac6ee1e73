# SPDX-License-Identifier: Apache-2.0
"""Rows and options are refused before any arithmetic, each in one clear sentence."""

import numpy as np
import pytest

from jaxalign.maps.anchor_rows import as_float, check_pairs
from jaxalign.maps.checks import check_options, check_spaces

ROWS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
OPTIONS = {
    "fit_on": "image",
    "scale": None,
    "kind": "orthogonal",
    "ridge": None,
    "proper": False,
    "identified_only": False,
    "rank": None,
    "batch_size": 8,
}


def _with(row, value):
    rows = ROWS.copy()
    rows[row] = value
    return rows


def test_good_options_and_rows_pass_untouched():
    check_options("fit_map", ["image"], **OPTIONS)
    hosts = check_pairs(
        "fit_map", {"image": (ROWS, ROWS[:, :2]), "text": (ROWS[:2], ROWS[:2, :2])}
    )
    assert hosts["image"][0] is ROWS


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"fit_on": "audio"}, "fit_on"),
        ({"scale": "unit"}, "scale"),
        ({"kind": "affine"}, "kind"),
        ({"ridge": 0.1}, "ridge"),
        ({"kind": "linear", "ridge": -1.0}, "ridge"),
        ({"kind": "linear", "ridge": float("nan")}, "ridge"),
        ({"kind": "linear", "ridge": float("inf")}, "ridge"),
        ({"kind": "linear", "ridge": "weak"}, "ridge"),
        ({"batch_size": 10.5}, "batch_size"),
        ({"batch_size": "3"}, "batch_size"),
        ({"kind": "linear", "proper": True}, "proper"),
        ({"batch_size": 0}, "batch_size"),
        ({"loss": "cauchy"}, "loss"),
        ({"kind": "linear", "loss": "huber"}, "loss"),
    ],
)
def test_wrong_options_name_their_argument(change, argument):
    with pytest.raises(ValueError, match=rf"`some_fit\({argument}=.*expected"):
        check_options("some_fit", ["image"], **{**OPTIONS, **change})


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
def test_wrong_rows_name_their_side(sides, message):
    with pytest.raises(ValueError, match=message):
        check_pairs("fit_map", {"image": sides})


@pytest.mark.parametrize("pairs", [{}, {"all": (ROWS, ROWS)}, [ROWS, ROWS]])
def test_pairs_are_a_dictionary_by_modality(pairs):
    with pytest.raises(ValueError, match=r"`some_fit\(pairs=.*expected"):
        check_pairs("some_fit", pairs)


def test_modalities_share_their_widths():
    pairs = {"image": (ROWS, ROWS), "text": (ROWS, ROWS[:, :2])}
    with pytest.raises(ValueError, match=r"'text'.*widths \(3, 3\).*got \(3, 2\)"):
        check_pairs("fit_map", pairs)


@pytest.mark.parametrize("space", [3, b"bytes"])
def test_spaces_are_strings(space):
    check_spaces("fit_map", None, "0123")
    with pytest.raises(ValueError, match="target_space=.*expected a string"):
        check_spaces("fit_map", None, space)


def test_half_precision_is_widened():
    assert as_float(ROWS.astype(np.float16)).dtype == np.float32
