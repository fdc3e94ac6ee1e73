# SPDX-License-Identifier: Apache-2.0
"""Maps know the norms of their anchors, and refuse rows of another scale."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from tests.cases import planted_rows
from tests.tolerances import ROWS, SUMS, eps

F32 = eps(np.float32)


@pytest.fixture(scope="module")
def pair():
    """Unit rows of a cone, and rows of the other model of norm 5 or so."""
    source, target, _ = planted_rows(
        np.random.default_rng(0), 300, 8, means=(0.8, 0.3), noise=0.05
    )
    source /= np.linalg.norm(source, axis=1, keepdims=True)
    return source, np.float32(5.0) * target


@pytest.fixture(scope="module")
def amap(pair):
    return ja.fit_map({"image": pair})


def test_norms_are_those_of_the_anchors(pair, amap):
    for side, norms in zip(
        pair, (amap.numbers.source_norms, amap.numbers.target_norms), strict=True
    ):
        own = np.linalg.norm(side.astype(np.float64), axis=1)
        expected = [own.min(), np.sqrt(np.mean(own**2)), own.max()]
        np.testing.assert_allclose(norms["image"], expected, rtol=SUMS * F32)


def test_moments_know_the_root_mean_square(pair):
    moments = ja.accumulate_moments(ja.anchors.array_pairs(*pair))
    norms = ja.fit_map({"image": moments}).numbers.source_norms["image"]
    np.testing.assert_allclose(norms, [0.5, 1.0, 2.0], rtol=SUMS * F32)


@pytest.mark.parametrize("factor", [10.0, 28.0, 0.1])
def test_raw_features_are_refused_or_brought_to_scale(pair, amap, tmp_path, factor):
    rows = np.float32(factor) * pair[0]
    for given in (rows, jnp.asarray(rows)):
        with pytest.raises(ValueError, match=r"amap\(rows=.*norm.*normalize_input"):
            amap(given)
    with pytest.raises(ValueError, match=r"norm.*normalize_input"):
        ja.carry_rows(amap, rows, tmp_path / "rows.npy")
    expected = amap(pair[0])
    moved = amap(rows, normalize_input=True)
    np.testing.assert_allclose(moved, expected, atol=20 * ROWS * F32)
    path = ja.carry_rows(
        amap, rows, tmp_path / "rows.npy", normalize=False, normalize_input=True
    )
    np.testing.assert_allclose(np.load(path), expected, atol=20 * ROWS * F32)


def test_a_row_among_many_is_enough(pair, amap):
    rows = pair[0].copy()
    rows[17] *= 10
    with pytest.raises(ValueError, match="norms from 1 to 10"):
        amap(rows)
    # A row without a norm is not judged by it.
    rows[17], rows[18] = 0.0, np.nan
    assert np.isfinite(np.asarray(amap(rows))[:18]).all()


def test_the_other_way_takes_rows_of_the_other_norm(pair, amap):
    back = amap.inverse()
    back(pair[1])
    with pytest.raises(ValueError, match="norm"):
        back(pair[1] / 10)
    round_trip = back @ amap
    round_trip(pair[0])
    with pytest.raises(ValueError, match="norm"):
        round_trip(10 * pair[0])


def test_norms_are_stored_and_older_maps_have_none(pair, amap, tmp_path):
    path = tmp_path / "map.safetensors"
    amap.save(path)
    loaded = ja.AlignmentMap.load(path)
    with pytest.raises(ValueError, match="norm"):
        loaded(10 * pair[0])
    numbers = amap.numbers.replace(source_norms=None, target_norms=None)
    older = dataclasses.replace(amap, numbers=numbers)
    assert older.fingerprint == amap.fingerprint
    older.save(path)
    older = ja.AlignmentMap.load(path)
    assert older.numbers.source_norms is None
    older(10 * pair[0])
    moved = older(10 * pair[0], normalize_input=True)
    np.testing.assert_allclose(moved, amap(pair[0]), atol=20 * ROWS * F32)


def test_nothing_is_checked_inside_jit(pair, amap):
    moved = jax.jit(amap)(10 * pair[0])
    assert moved.shape == pair[1].shape
