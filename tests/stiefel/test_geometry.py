# SPDX-License-Identifier: Apache-2.0
"""Tangents, metrics, components and draws by their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.stiefel import geometry
from jaxalign.stiefel.geometry import (
    component,
    inner_product,
    project_tangent,
    random_point,
    random_tangent,
    reflect,
    riemannian_gradient,
    tangent_norm,
    transport,
)
from tests.cases import DTYPES, POINT_SHAPES, manifold_error, orthonormal, x64_for
from tests.tolerances import POLAR, ROWS, eps

F32 = eps(np.float32)


def tall_of(array):
    array = np.asarray(array, np.float64)
    return array if array.shape[-2] >= array.shape[-1] else np.swapaxes(array, -1, -2)


def off_tangent(point, vector):
    """Largest entry of the symmetric part of X'V."""
    inner = tall_of(point).T @ tall_of(vector)
    return np.max(np.abs(inner + inner.T))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", POINT_SHAPES)
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
    point = jnp.eye(3)
    slope = jax.grad(lambda t: tangent_norm(point, t))(jnp.zeros((3, 3)))
    assert not np.any(slope)
    assert np.isnan(tangent_norm(point, jnp.full((3, 3), jnp.nan)))


def test_components_and_reflections():
    points = random_point(jax.random.key(0), (40, 5, 5))
    signs = np.sign(np.linalg.det(np.asarray(points, np.float64)))
    np.testing.assert_array_equal(component(points), signs)
    # Both come up: all 40 alike has a chance of 2e-12.
    assert set(signs) == {-1.0, 1.0}
    np.testing.assert_array_equal(component(reflect(points)), -signs)
    assert max(manifold_error(point) for point in reflect(points)) <= POLAR * F32
    assert np.asarray(component(points[:, :3])).tolist() == [0] * 40
    assert int(component(points[0].at[0, 0].set(jnp.nan))) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, jnp.bfloat16])
def test_draws_are_points_of_the_component_and_the_dtype(dtype):
    with x64_for(dtype):
        for determinant in (1, -1):
            drawn = random_point(
                jax.random.key(1), (3, 4, 4), determinant=determinant, dtype=dtype
            )
            assert drawn.dtype == dtype
            bound = POLAR * float(jnp.finfo(dtype).eps)
            assert max(manifold_error(one) for one in drawn) <= bound
            assert np.asarray(component(drawn)).tolist() == [determinant] * 3
        for shape in POINT_SHAPES:
            drawn = random_point(jax.random.key(2), shape, dtype=dtype)
            assert drawn.shape == shape
            assert manifold_error(drawn) <= bound


@pytest.mark.parametrize("determinant", [None, 1, -1])
def test_draws_are_uniform(determinant):
    # By Haar's measure an entry has mean 0 and variance 1 / d, the trace variance 1,
    # and so after any turn.
    count = 4000
    points = random_point(jax.random.key(3), (count, 3, 3), determinant=determinant)
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
        planted = ja.random_rotation(jax.random.key(4), 5, 5, reflect=reflect_it)
        drawn = random_point(jax.random.key(4), (5, 5), determinant=determinant)
        np.testing.assert_array_equal(planted, drawn)


def test_random_tangents_are_standard_normal_on_the_tangent_space():
    point = random_point(jax.random.key(5), (7, 3))
    many = jax.vmap(lambda key: random_tangent(key, point))(
        jax.random.split(jax.random.key(6), 2000)
    )
    # As many directions as the manifold has: 7 * 3 - 3 * 4 / 2.
    dimension = 15
    squares = np.sum(np.asarray(many, np.float64) ** 2, axis=(1, 2))
    assert abs(np.mean(squares) - dimension) <= 5 * np.sqrt(2 * dimension / 2000)


def test_geometry_of_a_sharded_batch_needs_no_communication():
    sharding = ja.row_sharding(ja.data_mesh())
    point = jax.device_put(random_point(jax.random.key(7), (8, 5, 4)), sharding)
    square = jax.device_put(random_point(jax.random.key(7), (8, 5, 5)), sharding)
    for call, arguments in (
        (lambda p, v: riemannian_gradient(p, v, metric="canonical"), (point, point)),
        (project_tangent, (square, square)),
        (lambda p, v: tangent_norm(p, v, metric="canonical"), (point, point)),
        (component, (square,)),
    ):
        text = jax.jit(call).lower(*arguments).compile().as_text()
        for collective in ("all-reduce", "all-gather", "all-to-all", "permute"):
            assert collective not in text


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_say_what_to_do():
    point = np.eye(3, dtype=np.float32)
    key = jax.random.key(0)
    for wrong in (point[0], point.astype(int), [[1.0]]):
        with pytest.raises(ValueError, match="pass a matrix such as"):
            component(wrong)
    with pytest.raises(ValueError, match="broadcast the two first"):
        project_tangent(point, point[:, :2])
    with pytest.raises(ValueError, match="leave it out for 'euclidean'"):
        riemannian_gradient(point, point, metric="flat")
    with pytest.raises(ValueError, match="leave it out for 'euclidean'"):
        inner_product(point, point, point, metric="flat")
    with pytest.raises(ValueError, match="need no reflection"):
        reflect(point[:, :2])
    with pytest.raises(ValueError, match="pass \\(d_target, d_source\\)"):
        random_point(key, (3,))
    for shape, determinant in (((3, 3), 2), ((3, 2), 1)):
        with pytest.raises(ValueError, match="leave it out for any point"):
            random_point(key, shape, determinant=determinant)
