# SPDX-License-Identifier: Apache-2.0
"""Offsets against a full sort by NumPy, in blocks, under jit, and as a dimension."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from tests.compilations import compilations
from tests.tolerances import ROWS, eps

WITHIN = ROWS * eps(np.float32)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def by_hand(anchors, index, k):
    """Half the mean of the k largest cosines of each index row, in float64."""
    a, y = (
        side / np.linalg.norm(side, axis=1, keepdims=True)
        for side in (anchors.astype(np.float64), index.astype(np.float64))
    )
    return 0.5 * np.sort(y @ a.T, axis=1)[:, -k:].mean(axis=1)


def test_offsets_are_half_the_mean_of_the_nearest_anchors_by_few_programs():
    with compilations() as compiled:
        for n, m, k in [(30, 40, 1), (30, 200, 5), (250, 7, 16), (20, 9, 3)]:
            anchors, index = normal(n, n, 6), normal(m, m, 6)
            found = ja.search.hubness_offsets(anchors, index, k=k)
            np.testing.assert_allclose(found, by_hand(anchors, index, k), atol=WITHIN)
    assert len(compiled) <= 1
    in_blocks = ja.search.hubness_offsets(anchors, index, k=k, block_size=7)
    np.testing.assert_allclose(in_blocks, by_hand(anchors, index, k), atol=WITHIN)


def test_offsets_under_jit_are_those_outside():
    anchors, index = normal(0, 30, 6), normal(1, 40, 6)
    outside = ja.search.hubness_offsets(anchors, index, k=3)
    inside = jax.jit(lambda x, y: ja.search.hubness_offsets(x, y, k=3))(anchors, index)
    np.testing.assert_allclose(inside, outside, atol=WITHIN)
    np.testing.assert_allclose(inside, by_hand(anchors, index, 3), atol=WITHIN)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), turned=st.booleans())
def test_offsets_know_neither_norms_nor_order_nor_turns(seed, turned):
    rng = np.random.default_rng(seed)
    anchors, index = normal(seed, 20, 6), normal(seed + 1, 9, 6)
    found = ja.search.hubness_offsets(anchors, index, k=3)
    order = rng.permutation(20)
    grown = anchors[order] * rng.uniform(0.5, 2, (20, 1)).astype(np.float32)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0].astype(np.float32)
    if turned:
        grown, index = grown @ turn, index @ turn
    again = ja.search.hubness_offsets(grown, index, k=3)
    np.testing.assert_allclose(again, found, atol=WITHIN)


def test_an_offset_is_one_more_dimension():
    queries, index, offsets = normal(0, 11, 6), normal(1, 60, 6), 0.2 * normal(2, 60)
    wide = ja.search.append_offsets(index, offsets)
    products = (
        np.asarray(ja.search.append_offsets(queries, np.full(11, -1.0, np.float32)))
        @ np.asarray(wide).T
    )
    np.testing.assert_array_equal(wide[:, -1], -offsets)
    scores, rows = ja.search.top_k(queries, index, 60, offsets=offsets)
    expected = np.take_along_axis(products, np.asarray(rows), axis=1)
    np.testing.assert_allclose(scores, expected, atol=WITHIN)
    assert (np.diff(expected, axis=1) <= WITHIN).all()
    with compilations() as compiled:
        fewer = ja.search.append_offsets(index[:50], offsets[:50])
    assert not compiled
    np.testing.assert_array_equal(fewer, np.asarray(wide)[:50])


@pytest.mark.usefixtures("no_shape_hook")
def test_misfits_are_refused_with_a_remedy():
    rows = normal(0, 4, 3)
    for k in (0, 5, 2.5):
        with pytest.raises(ValueError, match=r"`hubness_offsets\(k="):
            ja.search.hubness_offsets(rows, rows, k=k)
    with pytest.raises(ValueError, match=r"`append_offsets\(offsets="):
        ja.search.append_offsets(rows, np.zeros(3, np.float32))
