# SPDX-License-Identifier: Apache-2.0
"""Angles between maps: against the rotation's own logarithm, and by invariance."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxalign.trust.angles import map_angles
from tests.cases import SHAPES, orthonormal


@pytest.mark.parametrize("size", [0.01, 1.0])
def test_square_angles_are_those_of_the_rotation_between(size):
    rng = np.random.default_rng(0)
    skew = rng.standard_normal((6, 6))
    skew = size * (skew - skew.T) / np.linalg.norm(skew - skew.T)
    one = orthonormal(rng, 6, 6)
    other = one @ scipy.linalg.expm(skew)
    found = map_angles(jnp.asarray(one), jnp.asarray(other))
    assert found.geodesic == pytest.approx(np.linalg.norm(skew), rel=1e-4)
    assert found.largest == pytest.approx(np.linalg.norm(skew, 2), rel=1e-4)


@pytest.mark.parametrize(("d_target", "d_source"), SHAPES)
def test_no_direction_is_sent_further_apart_than_the_largest_angle(d_target, d_source):
    rng = np.random.default_rng(1)
    one, other = (orthonormal(rng, d_target, d_source) for _ in range(2))
    largest = float(map_angles(jnp.asarray(one), jnp.asarray(other)).largest)
    if d_source > d_target:
        one, other = one.T, other.T
    rows = rng.standard_normal((2000, one.shape[1]))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = np.sum((rows @ one.T) * (rows @ other.T), axis=1)
    assert np.arccos(cosines.min()) <= largest
    worst = np.linalg.svd(one - other)[2][0]
    assert np.arccos((one @ worst) @ (other @ worst)) == pytest.approx(largest, 1e-4)


def test_only_the_basis_counts():
    flip = jnp.diag(jnp.array([1.0, 1.0, -1.0]))
    assert map_angles(flip, jnp.eye(3)).largest == pytest.approx(np.pi)
    assert map_angles(flip, jnp.eye(3), jnp.eye(3)[:, :2]).largest == 0.0
    # Zero columns, as `identified_directions` gives them, are no directions.
    kept = jnp.diag(jnp.array([1.0, 1.0, 0.0]))
    assert map_angles(flip, jnp.eye(3), kept).geodesic == 0.0
