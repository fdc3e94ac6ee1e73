# SPDX-License-Identifier: Apache-2.0
"""Uniform draws: the same bits by both of their users, no direction preferred."""

import jax
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.random_points import draw_orthonormal


@pytest.mark.parametrize("shape", [(5, 5), (6, 3), (3, 6)], ids=str)
def test_planted_rotations_and_points_are_one_draw(shape, key):
    reflect = shape[0] == shape[1]
    planted = ja.data.random_rotation(key, *shape, reflect=reflect)
    drawn = draw_orthonormal(key, shape, determinant=-1 if reflect else None)
    np.testing.assert_array_equal(planted, drawn)


def test_no_entry_is_preferred():
    drawn = np.asarray(draw_orthonormal(jax.random.key(1), (4000, 3, 3)))
    # Uniform: entries have mean 0 and variance 1/3, and either determinant is likely.
    assert np.abs(drawn.mean(axis=0)).max() < 5 * (1 / 3 / 4000) ** 0.5
    assert np.abs(np.square(drawn).mean(axis=0) - 1 / 3).max() < 5 * (0.1 / 4000) ** 0.5
    share = (np.linalg.det(drawn) > 0).mean()
    assert abs(share - 0.5) < 5 * 0.5 / 4000**0.5
