# SPDX-License-Identifier: Apache-2.0
"""A pick covers the rows better than a draw, and takes no row twice."""

import numpy as np
import pytest

from jaxalign.anchors.pick import draw_pool, pick_rows


@pytest.fixture(scope="module")
def rows():
    """Eight clusters of very different sizes."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, 16))
    sizes = [200, 100, 50, 20, 10, 5, 3, 2]
    return np.concatenate(
        [
            c + 0.1 * rng.normal(size=(n, 16))
            for c, n in zip(centres, sizes, strict=True)
        ]
    )


def _cover(rows, numbers):
    """Mean cosine of every row with its nearest picked one, about the mean."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    centred = units - units.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    return (centred @ centred[numbers].T).max(axis=1).mean()


def test_a_pick_covers_better_than_draws(rows):
    picked = _cover(rows, pick_rows(rows, 12))
    rng = np.random.default_rng(0)
    drawn = [_cover(rows, rng.permutation(len(rows))[:12]) for _ in range(20)]
    assert picked > max(drawn)


def test_the_first_ones_cover_most(rows):
    numbers = pick_rows(rows, 40)
    assert _cover(rows, numbers[:8]) > 0.9 * _cover(rows, numbers)


def test_no_row_comes_twice_and_seeds_repeat(rows):
    numbers = pick_rows(rows, len(rows))
    assert sorted(numbers.tolist()) == list(range(len(rows)))
    np.testing.assert_array_equal(pick_rows(rows, 30), pick_rows(rows, 30))


def test_bad_and_equal_rows_are_not_picked(rows):
    dirty = rows[:40].copy()
    dirty[3], dirty[5], dirty[8] = np.nan, 0, dirty[7]
    assert not {3, 5, 8} & set(pick_rows(dirty, 37).tolist())
    with pytest.raises(ValueError, match="n=38"):
        pick_rows(dirty, 38)


def test_the_pool_is_all_of_a_small_store():
    np.testing.assert_array_equal(draw_pool(100, 10), np.arange(100))
    pool = draw_pool(1_000_000, 5000, seed=1)
    assert len(pool) == 20_000
    assert (np.diff(pool) > 0).all()
    assert not np.array_equal(pool, draw_pool(1_000_000, 5000, seed=2))
