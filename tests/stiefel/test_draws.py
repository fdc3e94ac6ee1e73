# SPDX-License-Identifier: Apache-2.0
"""Random points and tangents by their distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.stiefel.components import component
from jaxalign.stiefel.draws import random_point, random_tangent
from tests.cases import manifold_error, orthonormal, x64_for
from tests.tolerances import POLAR


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((7, 1), np.float32), ((9, 5), np.float64), ((5, 9), jnp.bfloat16)],
)
def test_draws_are_points_of_the_shape_and_the_dtype(shape, dtype):
    with x64_for(dtype):
        drawn = random_point(jax.random.key(2), shape, dtype=dtype)
        assert drawn.shape == shape
        assert drawn.dtype == dtype
        assert manifold_error(drawn) <= POLAR * float(jnp.finfo(dtype).eps)


@pytest.mark.parametrize("determinant", [None, 1, -1])
def test_draws_are_uniform_in_their_component(determinant):
    # By Haar's measure an entry has mean 0 and variance 1 / d, the trace variance 1,
    # and so after any turn.
    count = 4000
    points = random_point(jax.random.key(3), (count, 3, 3), determinant=determinant)
    signs = {1, -1} if determinant is None else {determinant}
    assert set(np.asarray(component(points)).tolist()) == signs
    points = np.asarray(points, np.float64)
    turned = points @ orthonormal(np.random.default_rng(2), 3, 3)
    for sample in (points, turned):
        # Five standard errors of entries of variance 1/3.
        bound = 5.0 * np.sqrt(1.0 / (3.0 * count))
        assert np.max(np.abs(np.mean(sample, axis=0))) <= bound
        # The squares' variance is 3 / 15 - 1 / 9 = 4 / 45.
        spread = 5.0 * np.sqrt(4.0 / 45.0 / count)
        assert np.max(np.abs(np.mean(sample**2, axis=0) - 1.0 / 3.0)) <= spread
        # The trace's fourth moment is at most 4 (SO(3) alone: 3).
        trace = np.trace(sample, axis1=1, axis2=2)
        assert abs(np.mean(trace**2) - 1.0) <= 5.0 * np.sqrt(3.0 / count)


def test_planted_rotations_are_the_same_draws():
    for reflect_it, determinant in ((False, 1), (True, -1)):
        planted = ja.data.random_rotation(jax.random.key(4), 3, 3, reflect=reflect_it)
        drawn = random_point(jax.random.key(4), (3, 3), determinant=determinant)
        np.testing.assert_array_equal(planted, drawn)


def test_random_tangents_are_standard_normal_on_the_tangent_space():
    point = orthonormal(np.random.default_rng(5), 7, 3).astype(np.float32)
    many = random_tangent(jax.random.key(6), np.stack([point] * 2000))
    # As many directions as the manifold has: 7 * 3 - 3 * 4 / 2.
    dimension = 15
    squares = np.sum(np.asarray(many, np.float64) ** 2, axis=(1, 2))
    assert abs(np.mean(squares) - dimension) <= 5 * np.sqrt(2 * dimension / 2000)


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="shape="):
        random_point(key, (3,))
    for shape, determinant in (((3, 3), 2), ((3, 2), 1)):
        with pytest.raises(ValueError, match="determinant="):
            random_point(key, shape, determinant=determinant)
