# SPDX-License-Identifier: Apache-2.0
"""Tangents and metrics by their laws."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.stiefel import geometry
from jaxalign.stiefel.draws import random_tangent
from jaxalign.stiefel.geometry import (
    inner_product,
    project_tangent,
    riemannian_gradient,
    tangent_norm,
    transport,
)
from tests.cases import POINT_SHAPES, orthonormal, x64_for
from tests.collectives import assert_no_collective
from tests.tolerances import ROWS, eps

F32 = eps(np.float32)


def tall_of(array):
    array = np.asarray(array, np.float64)
    return array if array.shape[-2] >= array.shape[-1] else np.swapaxes(array, -1, -2)


def off_tangent(point, vector):
    """Largest entry of the symmetric part of X'V."""
    inner = tall_of(point).T @ tall_of(vector)
    return np.max(np.abs(inner + inner.T))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [*((shape, np.float32) for shape in POINT_SHAPES), (POINT_SHAPES[1], np.float64)],
)
def test_gradients_are_tangent_and_represent_the_differential(shape, dtype):
    rng = np.random.default_rng(0)
    point = orthonormal(rng, *shape).astype(dtype)
    gradient = rng.standard_normal(shape).astype(dtype)
    with x64_for(dtype):
        direction = random_tangent(jax.random.key(0), point)
        assert direction.dtype == dtype
        for metric in geometry.METRICS:
            found = riemannian_gradient(point, gradient, metric=metric)
            assert found.dtype == dtype
            assert off_tangent(point, found) <= ROWS * eps(dtype)
            # <grad, xi> in the metric is the derivative along xi.
            slope = float(inner_product(point, found, direction, metric=metric))
            expected = float(np.sum(np.asarray(direction, np.float64) * gradient))
            assert abs(slope - expected) <= ROWS * eps(dtype) * np.linalg.norm(gradient)
        euclidean = riemannian_gradient(point, gradient)
        projected = project_tangent(point, gradient)
        np.testing.assert_array_equal(euclidean, projected)
        np.testing.assert_array_equal(transport(point, gradient), projected)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31 - 1), shape=st.sampled_from(POINT_SHAPES))
def test_projection_is_idempotent_self_adjoint_and_equivariant(seed, shape):
    rng = np.random.default_rng(seed)
    point, turn = orthonormal(rng, *shape), orthonormal(rng, shape[0], shape[0])
    left, right = rng.standard_normal((2, *shape)).astype(np.float32)
    point, turn = point.astype(np.float32), turn.astype(np.float32)
    once = project_tangent(point, left)
    bound = ROWS * F32 * np.linalg.norm(left)
    np.testing.assert_allclose(project_tangent(point, once), once, atol=bound)
    there = np.sum(np.asarray(once, np.float64) * right)
    back = np.sum(left * np.asarray(project_tangent(point, right), np.float64))
    assert abs(there - back) <= bound * np.linalg.norm(right)
    # Rows may be turned, whichever side is the shorter one.
    moved = project_tangent(turn @ point, turn @ left)
    np.testing.assert_allclose(moved, turn @ np.asarray(once), atol=bound)


@pytest.mark.parametrize("shape", POINT_SHAPES)
def test_metrics_differ_by_half_of_the_turn_within_the_span(shape):
    rng = np.random.default_rng(1)
    point = orthonormal(rng, *shape).astype(np.float32)
    vectors = [random_tangent(jax.random.key(k), point) for k in range(2)]
    x, left, right = tall_of(point), *(tall_of(vector) for vector in vectors)
    whole = np.eye(len(x))
    for metric, weight in (("euclidean", whole), ("canonical", whole - 0.5 * x @ x.T)):
        expected = np.sum(left * (weight @ right))
        found = inner_product(point, *vectors, metric=metric)
        assert abs(float(found) - expected) <= ROWS * F32 * len(x) ** 2
        norm = tangent_norm(point, vectors[0], metric=metric)
        expected = np.sqrt(np.sum(left * (weight @ left)))
        np.testing.assert_allclose(norm, expected, rtol=ROWS * F32)


def test_norm_of_nothing_is_nothing_and_has_derivative_nothing():
    point, nothing = np.eye(6, dtype=np.float32), np.zeros((6, 6), np.float32)
    norm = jax.jit(jax.value_and_grad(lambda tangent: tangent_norm(point, tangent)))
    found, slope = norm(nothing)
    assert found == 0.0
    assert not np.any(slope)
    assert np.isnan(norm(nothing + np.nan)[0])


@pytest.mark.compiled_text
def test_geometry_of_a_sharded_batch_needs_no_communication():
    sharding = ja.sharding.row_sharding(ja.sharding.data_mesh())
    # Collectives do not depend on the values.
    point, square = (
        jax.device_put(np.ones((8, 5, columns), np.float32), sharding)
        for columns in (4, 5)
    )
    for call, arguments in (
        (lambda p, v: riemannian_gradient(p, v, metric="canonical"), (point, point)),
        (project_tangent, (square, square)),
        (lambda p, v: tangent_norm(p, v, metric="canonical"), (point, point)),
    ):
        text = jax.jit(call).lower(*arguments).compile().as_text()
        assert_no_collective(text)


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    point = np.eye(3, dtype=np.float32)
    for wrong in (point[0], point.astype(int), [[1.0]]):
        with pytest.raises(ValueError, match="point="):
            project_tangent(wrong, wrong)
    with pytest.raises(ValueError, match="vector="):
        project_tangent(point, point[:, :2])
    with pytest.raises(ValueError, match="metric="):
        riemannian_gradient(point, point, metric="flat")
    with pytest.raises(ValueError, match="metric="):
        inner_product(point, point, point, metric="flat")
