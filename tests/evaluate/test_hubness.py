# SPDX-License-Identifier: Apache-2.0
"""Offsets against a full sort by NumPy, in blocks, and as one more dimension."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.evaluate.cosine import unit_rows
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


@pytest.mark.parametrize("k", [1, 5, 30])
@pytest.mark.parametrize("block_size", [7, 4096])
def test_offsets_are_half_the_mean_of_the_nearest_anchors(k, block_size):
    anchors, index = normal(0, 30, 6), normal(1, 40, 6)
    found = ja.hubness_offsets(anchors, index, k=k, block_size=block_size)
    np.testing.assert_allclose(found, by_hand(anchors, index, k), atol=WITHIN)


def test_many_rows_go_through_in_blocks():
    anchors, index = normal(0, 8300, 4), normal(1, 50, 4)
    found = ja.hubness_offsets(anchors, index)
    np.testing.assert_allclose(found, by_hand(anchors, index, 5), atol=WITHIN)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), turned=st.booleans())
def test_offsets_know_neither_norms_nor_order_nor_turns(seed, turned):
    rng = np.random.default_rng(seed)
    anchors, index = normal(seed, 20, 5), normal(seed + 1, 9, 5)
    found = ja.hubness_offsets(anchors, index, k=3)
    order = rng.permutation(20)
    grown = anchors[order] * rng.uniform(0.5, 2, (20, 1)).astype(np.float32)
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0].astype(np.float32)
    if turned:
        grown, index = grown @ turn, index @ turn
    again = ja.hubness_offsets(grown, index, k=3)
    np.testing.assert_allclose(again, found, atol=WITHIN)


def test_an_offset_is_one_more_dimension():
    queries, index, offsets = normal(0, 11, 6), normal(1, 60, 6), 0.2 * normal(2, 60)
    wide = ja.append_offsets(index, offsets)
    products = np.asarray(ja.append_one(queries)) @ np.asarray(wide).T
    np.testing.assert_array_equal(wide[:, -1], -offsets)
    scores, rows = ja.top_k(queries, index, 60, offsets=offsets)
    expected = np.take_along_axis(products, np.asarray(rows), axis=1)
    np.testing.assert_allclose(scores, expected, atol=WITHIN)
    assert (np.diff(expected, axis=1) <= WITHIN).all()


def test_top_k_takes_offsets_under_jit_and_ranks_bad_rows_last():
    queries, index, offsets = normal(0, 4, 6), normal(1, 9, 6), 0.2 * normal(2, 9)
    eager = ja.top_k(queries, index, 9, offsets=offsets, block_size=4)
    jitted = jax.jit(lambda q, x, r: ja.top_k(q, x, 9, offsets=r, block_size=4))
    found = jitted(queries, index, offsets)
    np.testing.assert_array_equal(found[1], eager[1])
    index[2], offsets[5] = np.nan, np.inf
    scores, rows = jitted(queries, index, offsets)
    assert np.sort(rows[:, -2:], axis=1).tolist() == [[2, 5]] * 4
    assert np.isneginf(scores[:, -2:]).all()
    assert np.isfinite(scores[:, :-2]).all()
    assert np.asarray(unit_rows(index[:1])).shape == (1, 6)


@pytest.mark.usefixtures("no_shape_hook")
def test_misfits_are_refused_with_a_remedy():
    rows = normal(0, 4, 3)
    for k in (0, 5):
        with pytest.raises(
            ValueError, match="1 to 4, the number of anchors; pass more"
        ):
            ja.hubness_offsets(rows, rows, k=k)
    for call in (ja.append_offsets, lambda x, r: ja.top_k(x, x, 1, offsets=r)):
        with pytest.raises(ValueError, match="one offset per index row"):
            call(rows, np.zeros(3, np.float32))
