# SPDX-License-Identifier: Apache-2.0
"""Cosines of pairs: hand-made tables, collapse, and few programs for many sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.metrics.cosine import (
    agreement,
    centred_cosine,
    centred_pair_cosines,
    mean_cosine,
    mismatched_cosine,
    pair_cosines,
)
from jaxalign.unit_rows import unit_rows
from tests.compilations import compilations
from tests.tolerances import eps

# Sums of a few unit products: a handful of roundings each.
CLOSE = {"rtol": 0, "atol": 16 * eps(np.float32)}

# Four rows of eight: three on axes, one between two of them.
LEFT = np.zeros((4, 8), np.float32)
LEFT[0, 0], LEFT[1, 1], LEFT[2, 2], LEFT[3, 3] = 1.0, 2.0, 3.0, 4.0
RIGHT = np.zeros((4, 8), np.float32)
RIGHT[0, 0], RIGHT[1, 5], RIGHT[2, 2], RIGHT[3, 3:5] = 7.0, 1.0, -1.0, 1.0
COSINES = np.array([1.0, 0.0, -1.0, np.sqrt(0.5)])


def normal(n, seed=0, mean=0.0):
    rows = np.random.default_rng(seed).standard_normal((n, 8)) + mean
    return rows.astype(np.float32)


def by_hand(left, right):
    """All cosines of pairs in float64: pairs, centred pairs, mean of the others."""
    x, y = (
        side / np.linalg.norm(side, axis=1, keepdims=True)
        for side in (left.astype(np.float64), right.astype(np.float64))
    )
    table = x @ y.T
    x, y = (
        side / np.linalg.norm(side, axis=1, keepdims=True)
        for side in (x - x.mean(axis=0), y - y.mean(axis=0))
    )
    return (
        np.diag(table),
        (x * y).sum(axis=1),
        table[~np.eye(len(x), dtype=bool)].mean(),
    )


def test_pair_cosines_of_a_hand_made_table():
    np.testing.assert_allclose(pair_cosines(LEFT, RIGHT), COSINES, **CLOSE)
    np.testing.assert_allclose(mean_cosine(LEFT, RIGHT), COSINES.mean(), **CLOSE)
    half = mean_cosine(LEFT.astype(np.float16), RIGHT)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, COSINES.mean(), **CLOSE)


def test_any_number_of_pairs_goes_through_one_program():
    for n in (7, 60, 256, 3):
        left, right = normal(n, mean=1.0), normal(n, seed=1, mean=1.0)
        pairs, centred, others = by_hand(left, right)
        with compilations() as found:
            one = (
                pair_cosines(left, right),
                centred_pair_cosines(left, right),
                mismatched_cosine(left, right),
            )
            means = mean_cosine(left, right), centred_cosine(left, right)
            together = agreement(left, right)
        assert n == 7 or not found
        np.testing.assert_allclose(means, (pairs.mean(), centred.mean()), **CLOSE)
        for cosines in (one, together):
            np.testing.assert_allclose(cosines[0], pairs, **CLOSE)
            np.testing.assert_allclose(cosines[1], centred, **CLOSE)
            np.testing.assert_allclose(cosines[2], others, **CLOSE)
    assert agreement(left[:1], right[:1])[2] is None


def test_rows_that_are_traced_keep_their_number():
    left, right = normal(7), normal(7, seed=1)
    turned = jax.jit(lambda x, y: (centred_cosine(x, y), mismatched_cosine(x, y)))
    _, centred, others = by_hand(left, right)
    np.testing.assert_allclose(turned(left, right), (centred.mean(), others), **CLOSE)


def test_a_collapse_shows_in_mismatched_and_centred_cosine():
    rows = normal(1) + 1e-9 * normal(6)
    target = np.repeat(rows[:1], 6, axis=0)
    np.testing.assert_allclose(mean_cosine(rows, target), 1.0, **CLOSE)
    np.testing.assert_allclose(mismatched_cosine(rows, target), 1.0, **CLOSE)
    assert centred_cosine(rows, target) == 0.0


def test_centred_cosine_takes_off_each_sides_mean():
    rows = np.asarray(unit_rows(normal(50)))
    flip = np.array([-1.0] + 7 * [1.0], np.float32)
    own = centred_cosine(rows, rows * flip * 3.0)
    mean = rows.mean(axis=0)
    given = centred_cosine(rows, rows * flip, left_mean=mean, right_mean=mean * flip)
    np.testing.assert_allclose(own, given, **CLOSE)
    np.testing.assert_allclose(centred_cosine(rows, rows), 1.0, **CLOSE)


def test_zero_rows_have_cosine_zero():
    assert pair_cosines(np.zeros((1, 8)), np.ones((1, 8))).tolist() == [0.0]


@pytest.mark.usefixtures("no_shape_hook")
class TestErrors:
    @pytest.mark.parametrize("shape", [(4, 7), (3, 8)], ids=str)
    def test_shapes_that_do_not_pair(self, shape):
        with pytest.raises(ValueError, match="mean_cosine.*right"):
            mean_cosine(np.ones((4, 8)), np.ones(shape))

    def test_one_pair_has_no_mismatch(self):
        with pytest.raises(ValueError, match=r"mismatched_cosine\(left"):
            mismatched_cosine(np.ones((1, 8)), np.ones((1, 8)))
