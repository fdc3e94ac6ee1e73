# SPDX-License-Identifier: Apache-2.0
"""Sketches: leading directions by NumPy, whose rows come, and the map's file."""

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.maps.sketch import fits_other_side, left_over, sketch_moments
from tests.cases import planted_rows

N, D = 300, 16


@pytest.fixture(scope="module")
def pairs():
    source, target, _ = planted_rows(
        np.random.default_rng(0), N, D, noise=0.3, means=(0.9, 0.8)
    )
    # A falling spectrum, as embeddings have.
    fall = np.arange(1, D + 1) ** -1.0
    return source * fall, target * fall[::-1]


@pytest.fixture(scope="module")
def amap(pairs):
    return ja.fit_map(tuple(side[:200] for side in pairs))


def test_directions_are_numpys_and_so_is_what_they_leave(pairs):
    moments = ja.moments.init_moments(D, D, grams=True)
    moments = ja.moments.update_moments(moments, *map(np.float32, pairs))
    found = sketch_moments(moments)
    for side, rows in zip(("source", "target"), pairs, strict=True):
        centred = rows - rows.mean(axis=0)
        values, vectors = np.linalg.eigh(centred.T @ centred)
        kept = len(found[side].directions)
        leading = vectors[:, ::-1][:, :kept].T
        inside = np.linalg.svd(leading @ found[side].directions.T.astype(float))[1]
        # In half precision.
        np.testing.assert_allclose(inside, 1.0, atol=2e-3)
        assert found[side].left == pytest.approx(values[::-1][kept:].sum() / N, 1e-4)


def test_rows_of_the_other_side_are_told(pairs, amap):
    numbers = amap.numbers
    means = {"source": numbers.source_means, "target": numbers.target_means}
    for own, other, rows in (("source", "target", 0), ("target", "source", 1)):
        left = {
            side: left_over(amap.sketch["rows"][side], means[side]["rows"], new)
            for side, new in ((own, pairs[rows][200:]), (other, pairs[rows][200:]))
        }
        assert left[own] == pytest.approx(1.0, abs=0.3)
        assert fits_other_side(left[other], left[own])
        assert not fits_other_side(left[own], left[other])


def test_file_keeps_sketches_and_its_name(pairs, amap, tmp_path):
    amap.save(tmp_path / "map.safetensors")
    read = ja.AlignmentMap.load(tmp_path / "map.safetensors")
    for side in ("source", "target"):
        kept, found = amap.sketch["rows"][side], read.sketch["rows"][side]
        np.testing.assert_array_equal(kept.directions, found.directions)
        assert kept.left == found.left
    assert read.fingerprint == amap.fingerprint
    bare = ja.AlignmentMap(amap.numbers, card=amap.card)
    assert bare.fingerprint == amap.fingerprint
    turned = amap.inverse().sketch["rows"]
    assert turned["source"] is amap.sketch["rows"]["target"]


def test_rows_that_are_not_finite_are_left_out(pairs, amap):
    rows = pairs[0][200:].copy()
    sketch, mean = amap.sketch["rows"]["source"], amap.numbers.source_means["rows"]
    expected = left_over(sketch, mean, rows[1:])
    rows[0] = np.nan
    assert left_over(sketch, mean, rows) == pytest.approx(expected)
    assert np.isnan(left_over(sketch, mean, rows[:1]))
