# SPDX-License-Identifier: Apache-2.0
"""Linear maps of anchors: scales and residuals against sums over rows by hand."""

import numpy as np
import pytest

from jaxalign.maps.anchor_moments import all_moments
from jaxalign.maps.linear_fit import solve_anchors
from jaxalign.maps.row_measures import carry_by, measure_rows
from tests.tolerances import SUMS, eps

HOW = {"weights": {}, "modality_weights": {"image": 1.0}, "groups": {}, "batch_size": 7}
F32 = eps(np.float32)


@pytest.fixture
def anchors():
    rng = np.random.default_rng(1)
    source = rng.standard_normal((30, 4)).astype(np.float32) + 1
    target = source @ rng.standard_normal((4, 5)) + 0.1 * rng.standard_normal((30, 5))
    return {"image": (source, target.astype(np.float32))}


@pytest.mark.parametrize("block", [1, 7, 4096])
@pytest.mark.parametrize("scale", ["none", "energy", "least_squares"])
def test_scale_and_residual_are_those_of_the_rows(anchors, scale, block):
    moments = all_moments(anchors, {}, grams=True, batch_size=16)
    matrix = np.random.default_rng(2).standard_normal((5, 4)).astype(np.float32)
    factor, residual = measure_rows(
        anchors["image"],
        None,
        moments["image"],
        carry_by(matrix, None),
        scale=scale,
        block=block,
    )
    x, y = (side - side.mean(axis=0, dtype=np.float64) for side in anchors["image"])
    carried = x @ matrix.T
    expected = {
        "none": 1.0,
        "energy": np.sqrt(np.sum(y**2) / np.sum(carried**2)),
        "least_squares": np.sum(y * carried) / np.sum(carried**2),
    }[scale]
    assert factor == pytest.approx(expected, rel=SUMS * F32)
    error = np.sum((expected * carried - y) ** 2) / np.sum(y**2)
    assert residual == pytest.approx(error, rel=SUMS * F32)


def test_least_squares_and_ridge_say_what_they_did(anchors):
    moments = all_moments(anchors, {}, grams=True, batch_size=16)
    least, notes = solve_anchors(anchors, moments, ridge=0.0, **HOW)
    assert notes == {"ridge": 0.0, "rank": 4, "status": "OK"}
    ridge, notes = solve_anchors(anchors, moments, ridge=0.5, **HOW)
    assert (notes["ridge"], notes["status"]) == (0.5, "OK")
    assert np.linalg.norm(ridge) < np.linalg.norm(least)
