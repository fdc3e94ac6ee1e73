# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.evaluate.cosine import (
    centred_cosine,
    mean_cosine,
    mismatched_cosine,
    pair_cosines,
    unit_rows,
)
from tests.tolerances import eps

# Sums of a few unit products: a handful of roundings each.
CLOSE = {"rtol": 0, "atol": 16 * eps(np.float32)}

# Four rows of eight: three on axes, one between two of them.
LEFT = np.zeros((4, 8), np.float32)
LEFT[0, 0], LEFT[1, 1], LEFT[2, 2], LEFT[3, 3] = 1.0, 2.0, 3.0, 4.0
RIGHT = np.zeros((4, 8), np.float32)
RIGHT[0, 0], RIGHT[1, 5], RIGHT[2, 2], RIGHT[3, 3:5] = 7.0, 1.0, -1.0, 1.0
COSINES = np.array([1.0, 0.0, -1.0, np.sqrt(0.5)])


def test_pair_cosines_of_a_hand_made_table():
    np.testing.assert_allclose(pair_cosines(LEFT, RIGHT), COSINES, **CLOSE)
    np.testing.assert_allclose(mean_cosine(LEFT, RIGHT), COSINES.mean(), **CLOSE)


def test_mismatched_cosine_equals_the_loop(key):
    left, right = jax.random.normal(key, (2, 7, 5)) + 1.0
    table = np.asarray(unit_rows(left) @ unit_rows(right).T)
    expected = table[~np.eye(7, dtype=bool)].mean()
    np.testing.assert_allclose(mismatched_cosine(left, right), expected, **CLOSE)


def test_a_collapse_shows_in_mismatched_and_centred_cosine(key):
    rows = jax.random.normal(key, (1, 8)) + 1e-9 * jax.random.normal(key, (6, 8))
    target = jnp.broadcast_to(jnp.asarray(rows[:1]), (6, 8))
    np.testing.assert_allclose(mean_cosine(rows, target), 1.0, **CLOSE)
    np.testing.assert_allclose(mismatched_cosine(rows, target), 1.0, **CLOSE)
    assert centred_cosine(rows, target) == 0.0


def test_centred_cosine_takes_off_each_sides_mean(key):
    rows = unit_rows(jax.random.normal(key, (50, 8)))
    turned = rows.at[:, 0].multiply(-1.0)
    flip = jnp.ones(8).at[0].set(-1.0)
    own = centred_cosine(rows, turned * 3.0)
    given = centred_cosine(
        rows, turned, left_mean=rows.mean(0), right_mean=rows.mean(0) * flip
    )
    np.testing.assert_allclose(own, given, **CLOSE)
    np.testing.assert_allclose(centred_cosine(rows, rows), 1.0, **CLOSE)


def test_zero_rows_have_cosine_zero():
    assert pair_cosines(np.zeros((1, 3)), np.ones((1, 3))).tolist() == [0.0]


def test_half_precision_is_accumulated_in_float32():
    assert mean_cosine(LEFT.astype(np.float16), RIGHT).dtype == jnp.float32


@pytest.mark.usefixtures("no_shape_hook")
class TestErrors:
    def test_shapes_that_do_not_pair(self):
        with pytest.raises(ValueError, match="carry the rows of both sides"):
            mean_cosine(np.ones((4, 8)), np.ones((4, 7)))

    def test_one_pair_has_no_mismatch(self):
        with pytest.raises(ValueError, match="one pair has no mismatched partner"):
            mismatched_cosine(np.ones((1, 8)), np.ones((1, 8)))
