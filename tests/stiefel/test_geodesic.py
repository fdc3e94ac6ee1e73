# SPDX-License-Identifier: Apache-2.0
"""Distances against geodesics of known length, and by the laws of a metric."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.stiefel import geodesic
from jaxalign.stiefel.geodesic import geodesic_distance
from tests.cases import DTYPES, orthonormal, tangent_pair, x64_for
from tests.collectives import assert_no_collective
from tests.stiefel.geodesics import canonical_geodesic
from tests.tolerances import DISTANCE, eps

F32 = eps(np.float32)
# Square, tall, a single row, one row more than columns; a shape compiles for a second.
SHAPES = ((6, 6), (9, 5), (1, 7), (6, 5))
slope = jax.jit(jax.grad(geodesic_distance, (0, 1)))


def canonical_norm(point, tangent):
    if point.shape[0] < point.shape[1]:
        point, tangent = point.T, tangent.T
    inner = point.T @ tangent
    return np.sqrt(np.sum(tangent**2) - 0.5 * np.sum(inner**2))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        pytest.param(
            shape,
            dtype,
            # Each compiles anew.
            marks=[pytest.mark.slow] if dtype == np.float64 and shape != (9, 5) else [],
        )
        for shape in SHAPES
        for dtype in DTYPES
    ],
)
def test_distance_is_the_length_of_the_geodesic(shape, dtype):
    rng = np.random.default_rng(0)
    with x64_for(dtype):
        for size in (0.0, 1e-6, 1e-2, 0.5, 1.0, 1.8):
            point, tangent = tangent_pair(rng, shape, size)
            end = canonical_geodesic(point, tangent)
            expected = canonical_norm(point, tangent)
            found = geodesic_distance(point.astype(dtype), end.astype(dtype))
            assert found.dtype == dtype
            assert abs(float(found) - expected) <= DISTANCE * eps(dtype)


def test_angles_are_right_from_nothing_to_half_a_turn():
    rng = np.random.default_rng(1)
    frame = orthonormal(rng, 6, 6)
    for angle in (1e-5, 1.0, 3.0, np.pi - 1e-3, np.pi):
        turn = np.zeros((6, 6))
        turn[0, 1], turn[2, 3] = angle, angle / 2
        end = frame @ scipy.linalg.expm(turn - turn.T)
        found = geodesic_distance(frame.astype(np.float32), end.astype(np.float32))
        expected = np.sqrt(1.25) * angle
        assert abs(float(found) - expected) <= DISTANCE * F32


def test_components_are_infinitely_apart():
    rng = np.random.default_rng(2)
    for d in (1, 6):
        point = orthonormal(rng, d, d).astype(np.float32)
        other = point.copy()
        other[:, 0] *= -1
        assert float(geodesic_distance(point, other)) == np.inf


def test_tall_points_with_one_row_more_know_the_square_distance():
    # One more column is determined by the others: the manifold is SO(n).
    rng = np.random.default_rng(3)
    point, tangent = tangent_pair(rng, (6, 6), 1.0)
    end = canonical_geodesic(point, tangent)
    square = geodesic_distance(point.astype(np.float32), end.astype(np.float32))
    less = (side[:, :5].astype(np.float32) for side in (point, end))
    np.testing.assert_allclose(geodesic_distance(*less), square, atol=DISTANCE * F32)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31 - 1), shape=st.sampled_from(SHAPES))
def test_laws_of_a_metric(seed, shape):
    rng = np.random.default_rng(seed)
    start, first = tangent_pair(rng, shape, 0.4)
    middle = canonical_geodesic(start, first)
    end = scipy.linalg.polar(start + 0.2 * rng.standard_normal(shape))[0]
    rows, columns = (
        orthonormal(rng, shape[0], shape[0]),
        orthonormal(rng, shape[1], shape[1]),
    )

    def distance(left, right):
        pair = left.astype(np.float32), right.astype(np.float32)
        return float(geodesic_distance(*pair))

    there, back = distance(start, middle), distance(middle, start)
    assert abs(there - back) <= DISTANCE * F32
    turned = distance(rows @ start @ columns, rows @ middle @ columns)
    assert abs(there - turned) <= DISTANCE * F32
    assert distance(start, start) <= DISTANCE * F32
    assert there <= distance(start, end) + distance(end, middle) + DISTANCE * F32


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(shape, marks=[] if shape in SHAPES[:2] else [pytest.mark.slow])
        for shape in SHAPES
    ],
)
@pytest.mark.usefixtures("x64")
def test_derivative_is_that_of_finite_differences_and_nothing_at_nothing(shape):
    rng = np.random.default_rng(4)
    point, tangent = tangent_pair(rng, shape, 0.9)
    end = canonical_geodesic(point, tangent)
    ways = tangents_at(rng, point), tangents_at(rng, end)
    slopes = slope(point, end)
    assert not np.any(slope(point, point))
    if shape[0] == shape[1]:
        # Infinitely far away, too.
        assert not np.any(slope(point, end * np.where(np.arange(shape[1]), 1, -1)))
    # On the manifold: what the distance is beside it, nobody asks.
    step = 1e-4
    for k, way in enumerate(ways):
        ahead, behind = (
            float(
                geodesic_distance(
                    scipy.linalg.polar(point + (k == 0) * time * ways[0])[0],
                    scipy.linalg.polar(end + (k == 1) * time * ways[1])[0],
                )
            )
            for time in (step, -step)
        )
        found = np.sum(np.asarray(slopes[k]) * way)
        # Central differences err by step^2, the distance by DISTANCE eps / step.
        assert found == pytest.approx((ahead - behind) / (2 * step), abs=1e-6)


def tangents_at(rng, point):
    """A tangent vector of spectral norm 1."""
    tall = point if point.shape[0] >= point.shape[1] else point.T
    vector = rng.standard_normal(tall.shape)
    inner = tall.T @ vector
    vector = vector - tall @ (inner + inner.T) / 2
    vector = vector / np.linalg.norm(vector, 2)
    return vector if tall is point else vector.T


@pytest.mark.compiled_text
def test_batch_is_loop_and_needs_no_communication():
    rng = np.random.default_rng(6)
    pairs = [tangent_pair(rng, (9, 5), 0.2 * k) for k in range(8)]
    points = np.stack([point for point, _ in pairs]).astype(np.float32)
    ends = np.stack([canonical_geodesic(*pair) for pair in pairs]).astype(np.float32)
    alone = [float(geodesic_distance(*pair)) for pair in zip(points, ends, strict=True)]
    mapped = jax.jit(jax.vmap(geodesic_distance))(points, ends)
    np.testing.assert_allclose(mapped, alone, atol=DISTANCE * F32)
    split = jax.device_put(
        (points, ends), ja.sharding.row_sharding(ja.sharding.data_mesh())
    )
    compiled = jax.jit(geodesic_distance).lower(*split).compile()
    assert_no_collective(compiled.as_text())
    np.testing.assert_allclose(compiled(*split), alone, atol=DISTANCE * F32)


def test_what_is_not_found_is_nan(monkeypatch):
    monkeypatch.setattr(geodesic, "_ROUNDS", 1)
    point, tangent = tangent_pair(np.random.default_rng(7), (9, 5), 1.5)
    end = canonical_geodesic(point, tangent)
    pair = jnp.asarray(point, jnp.float32), jnp.asarray(end, jnp.float32)
    both = jnp.concatenate(pair, axis=-1)
    # A program of its own, compiled with the fewer rounds.
    distance, slopes = jax.jit(lambda sides: geodesic._slopes_one(sides))(both)
    assert np.isnan(distance)
    assert np.all(np.isnan(slopes))
    assert np.isnan(geodesic_distance(pair[0] * jnp.nan, pair[1]))


@pytest.mark.parametrize("shape", [(9, 5), (1, 7)])
def test_opposite_columns_are_not_at_no_distance(shape):
    point = orthonormal(np.random.default_rng(8), *shape).astype(np.float32)
    other = point.copy()
    other[:, 0] *= -1
    if shape[0] < shape[1]:
        other = -point
    # Half a turn: no principal logarithm, so no distance rather than a wrong one.
    assert np.isnan(geodesic_distance(point, other))


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    point = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="right="):
        geodesic_distance(point, point[:2])
