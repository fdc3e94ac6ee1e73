# SPDX-License-Identifier: Apache-2.0
"""Scales and residuals measured on rows, against sums by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.families.row_measures import measure_rows
from tests.tolerances import SUMS, eps

F32 = eps(np.float32)


@pytest.fixture(scope="module")
def anchors():
    rng = np.random.default_rng(1)
    source = rng.standard_normal((30, 4)).astype(np.float32) + 1
    target = source @ rng.standard_normal((4, 5)) + 0.1 * rng.standard_normal((30, 5))
    return ja.Anchors((source, target.astype(np.float32)))


@pytest.mark.parametrize("block", [1, 7, 4096])
@pytest.mark.parametrize("scale", ["none", "energy", "least_squares"])
def test_scale_and_residual_are_those_of_the_rows(anchors, scale, block):
    moments = anchors.moments(grams=True)["rows"]
    matrix = np.random.default_rng(2).standard_normal((5, 4)).astype(np.float32)
    solved = ja.families.Solved(jnp.asarray(matrix), jnp.int32(0))
    rows = anchors.rows["rows"]
    factor, residual = measure_rows(
        rows, moments, solved, scale=scale, batch_size=block
    )
    x, y = (s - s.mean(axis=0, dtype=np.float64) for s in (rows.source, rows.target))
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
    least, ridge = (
        ja.fit_map(anchors, ja.LeastSquares()),
        ja.fit_map(anchors, ja.Ridge(0.5)),
    )
    fit = least.card["fit"]
    assert (fit["family"]["name"], fit["rank"], fit["status"]) == (
        "least_squares",
        4,
        "OK",
    )
    fit = ridge.card["fit"]
    assert (fit["strength"], fit["status"]) == (0.5, "OK")
    assert np.linalg.norm(ridge.matrix) < np.linalg.norm(least.matrix)
