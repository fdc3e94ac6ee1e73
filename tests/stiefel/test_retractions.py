# SPDX-License-Identifier: Apache-2.0
"""One table of properties for every retraction: shapes, dtypes, steps of any length."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

import jaxalign as ja
from jaxalign.stiefel import cayley, polar_step, qr_step, retractions
from jaxalign.stiefel.components import component
from jaxalign.stiefel.geometry import project_tangent
from jaxalign.stiefel.retractions import RETRACTIONS, retract
from tests.cases import (
    DTYPES,
    POINT_SHAPES,
    RETRACTION_CASES,
    manifold_error,
    orthonormal,
    tangent_pair,
    x64_for,
)
from tests.collectives import assert_no_collective
from tests.stiefel.geodesics import canonical_geodesic, euclidean_geodesic
from tests.tolerances import PATH, RETRACTION, eps, retraction

F32 = eps(np.float32)
SECOND_ORDER = {
    "polar": euclidean_geodesic,
    "cayley": canonical_geodesic,
    "cayley_iterative": canonical_geodesic,
}
PROGRAMS = {
    "qr": retractions._qr,
    "polar": retractions._polar,
    "cayley": cayley._cayley,
    "cayley_iterative": cayley._cayley_iterative,
}
by_method = pytest.mark.parametrize("method", RETRACTIONS)
by_shape = pytest.mark.parametrize("shape", POINT_SHAPES)


@pytest.mark.parametrize(
    ("method", "shape", "dtype"),
    [
        pytest.param(
            *case,
            # Each compiles anew; orders and derivatives are in float64 below.
            marks=[pytest.mark.slow]
            if case[2] == np.float64 and case[1] != (6, 6)
            else [],
        )
        for case in RETRACTION_CASES
    ],
)
def test_steps_of_any_length_end_on_the_manifold_by_one_program(method, shape, dtype):
    rng = np.random.default_rng(0)
    programs = set()
    with x64_for(dtype):
        for size in (0.0, 1e-4, 0.01, 0.05, 0.3, 1.0, 3.0, 10.0, 1e3):
            point, tangent = tangent_pair(rng, shape, size, dtype=dtype)
            found = retract(point, tangent, method=method)
            assert found.shape == shape
            assert found.dtype == dtype
            programs.add(PROGRAMS[method]._cache_size())
            if method == "cayley_iterative" and size > 1.0:
                # Documented: nothing is promised there.
                continue
            assert manifold_error(found) <= retraction(dtype, method, size)
            if size == 0.0:
                np.testing.assert_allclose(found, point, atol=RETRACTION * eps(dtype))
    assert len(programs) == 1


@pytest.mark.usefixtures("x64")
@by_method
@pytest.mark.parametrize("shape", POINT_SHAPES[:2])
def test_remainder_has_the_slope_of_the_order(method, shape):
    rng = np.random.default_rng(1)
    point, tangent = tangent_pair(rng, shape, 1.0)
    sizes = np.geomspace(3e-3, 3e-2, 4)

    def slope(reference):
        errors = [
            np.linalg.norm(
                np.asarray(retract(point, size * tangent, method=method))
                - reference(point, size * tangent)
            )
            for size in sizes
        ]
        return np.polyfit(np.log(sizes), np.log(errors), 1)[0]

    assert abs(slope(np.add) - 2.0) <= 0.05
    if method in SECOND_ORDER:
        assert abs(slope(SECOND_ORDER[method]) - 3.0) <= 0.05


@pytest.mark.parametrize("method", ["qr", "polar"])
@by_shape
def test_factors_are_those_of_scipy(method, shape):
    rng = np.random.default_rng(2)
    for size in (1e-3, 0.05, 0.3, 2.0, 6.0, 100.0, 1e4):
        point, tangent = tangent_pair(rng, shape, size, dtype=np.float32)
        moved = point.astype(np.float64) + tangent
        if method == "polar":
            expected, _ = scipy.linalg.polar(moved)
        else:
            tall = moved if shape[0] >= shape[1] else moved.T
            q, r = scipy.linalg.qr(tall, mode="economic")
            expected = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
            expected = expected if shape[0] >= shape[1] else expected.T
        found = retract(point, tangent, method=method)
        # The sum's rounding is that of its largest singular value; the least is one.
        bound = RETRACTION * F32 * (1.0 + size)
        np.testing.assert_allclose(found, expected, atol=bound)


def test_products_of_polar_are_as_many_as_said(monkeypatch):
    counted = []

    def product(left, right):
        counted.append(left.shape)
        return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)

    monkeypatch.setattr(polar_step, "product", product)
    rng = np.random.default_rng(3)
    for size, expected in ((0, 2), (0.03, 2), (0.1, 3), (0.3, 5), (1, 8), (10, 14)):
        point, tangent = tangent_pair(rng, (32, 32), size, dtype=np.float32)
        counted.clear()
        # Loops are Python's then, and their turns can be counted.
        with jax.disable_jit():
            polar_step.polar_of_step(jnp.asarray(point + tangent))
        assert len(counted) == expected, size


def test_qr_takes_householder_for_long_steps_alone(monkeypatch):
    called = []
    householder = qr_step._householder
    monkeypatch.setattr(
        qr_step, "_householder", lambda m: called.append(m) or householder(m)
    )
    rng = np.random.default_rng(4)
    for size, expected in ((0.5, 0), (100.0, 1)):
        # The size of the test above, whose operations are compiled.
        point, tangent = tangent_pair(rng, (32, 32), size, dtype=np.float32)
        with jax.disable_jit():
            qr_step.qr_of_step(jnp.asarray(point + tangent))
        assert len(called) == expected


@by_method
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(shape, marks=[pytest.mark.slow] if shape != (9, 5) else [])
        for shape in POINT_SHAPES[:3]
    ],
)
def test_batch_is_loop_is_vmap(method, shape):
    rng = np.random.default_rng(5)
    sizes = (1e-3, 0.1, 0.5, 0.02)
    pairs = [tangent_pair(rng, shape, size, dtype=np.float32) for size in sizes]
    points, tangents = (np.stack(side) for side in zip(*pairs, strict=True))
    call = functools.partial(retract, method=method)
    alone = np.stack([call(*pair) for pair in pairs])
    twice = (2, 2, *shape)
    batched = call(points.reshape(twice), tangents.reshape(twice))
    mapped = jax.jit(jax.vmap(call))(points, tangents)
    for found in (batched.reshape(points.shape), mapped):
        np.testing.assert_allclose(found, alone, atol=RETRACTION * F32)


@by_method
def test_component_is_kept_by_long_steps_and_long_paths(method):
    rng = np.random.default_rng(6)
    iterative = method == "cayley_iterative"
    # Short enough for the series, whose errors add up.
    size = 0.004 if iterative else 0.2
    drawn = rng.standard_normal((1000, 6, 6)).astype(np.float32)

    def step(point, vector):
        tangent = size * project_tangent(point, vector)
        return retract(point, tangent, method=method), None

    walk = jax.jit(lambda point: jax.lax.scan(step, point, drawn)[0])
    for determinant in (1, -1):
        for length in (0.1, 0.5) if iterative else (0.1, 1.0, 3.2, 100.0, 1e3):
            pair = tangent_pair(
                rng, (6, 6), length, determinant=determinant, dtype=np.float32
            )
            assert int(component(retract(*pair, method=method))) == determinant
        start, _ = tangent_pair(
            rng, (6, 6), 1.0, determinant=determinant, dtype=np.float32
        )
        end = walk(start)
        assert int(component(end)) == determinant
        exact = method in ("qr", "polar")
        assert manifold_error(end) <= (RETRACTION if exact else PATH) * F32
        # It has been somewhere: this is no path of steps that are all thrown away.
        assert np.linalg.norm(np.asarray(end) - start) > 0.1


@pytest.mark.usefixtures("x64")
@by_method
@pytest.mark.parametrize("shape", POINT_SHAPES[:2])
def test_derivatives_are_those_of_finite_differences(method, shape):
    """Of the entries of a batch, each by itself: a short step and a long one."""
    rng = np.random.default_rng(7)
    pairs = [tangent_pair(rng, shape, size) for size in (0.01, 0.7)]
    points, tangents = (np.stack(side) for side in zip(*pairs, strict=True))
    weights, way, turn = rng.standard_normal((3, 2, *shape))

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def loss(points, tangents):
        found = retract(points, tangents, method=method)
        values = jnp.sum(weights * found, axis=(-2, -1))
        return jnp.sum(values), values

    _, slopes = loss(points, tangents)
    step = 1e-6
    for slope, side, other in (
        (slopes[0], way, np.zeros_like(turn)),
        (slopes[1], np.zeros_like(way), turn),
    ):
        (_, ahead), _ = loss(points + step * side, tangents + step * other)
        (_, behind), _ = loss(points - step * side, tangents - step * other)
        expected = np.asarray(ahead - behind) / (2 * step)
        found = np.sum(np.asarray(slope) * (side + other), axis=(-2, -1))
        # Central differences err by step^2 and, of sums of some 50 terms, eps / step.
        np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@by_method
def test_second_derivatives(method):
    pair = tangent_pair(np.random.default_rng(8), (4, 3), 0.7)

    def loss(point, tangent):
        return jnp.sum(retract(point, tangent, method=method) ** 3)

    check_grads(loss, pair, order=2, modes=["rev"], atol=1e-5, rtol=1e-5)


@by_method
def test_half_precision_is_computed_in_float32(method):
    dtype = jnp.bfloat16
    point, tangent = tangent_pair(np.random.default_rng(9), (9, 5), 0.3)
    point, tangent = jnp.asarray(point, dtype), jnp.asarray(tangent, dtype)
    found = retract(point, tangent, method=method)
    assert found.dtype == dtype
    wide = retract(
        point.astype(jnp.float32), tangent.astype(jnp.float32), method=method
    )
    np.testing.assert_array_equal(found, wide.astype(dtype))


@pytest.mark.compiled_text
@by_method
def test_sharded_batch_needs_no_communication_nor_do_its_derivatives(method):
    # Square points are split with the optimisers.
    rng = np.random.default_rng(11)
    pairs = [tangent_pair(rng, (9, 5), 0.1 * k, dtype=np.float32) for k in range(8)]
    points, tangents = (np.stack(side) for side in zip(*pairs, strict=True))
    sharding = ja.sharding.row_sharding(ja.sharding.data_mesh())
    split = jax.device_put((points, tangents), sharding)

    def step(point, tangent):
        found, pull = jax.vjp(functools.partial(retract, method=method), point, tangent)
        return found, pull(found)

    compiled = jax.jit(step).lower(*split).compile()
    text = compiled.as_text()
    assert_no_collective(text)
    found, _ = compiled(*split)
    assert found.sharding.is_equivalent_to(sharding, 3)
    alone = [retract(*pair, method=method) for pair in pairs]
    np.testing.assert_allclose(found, np.stack(alone), atol=RETRACTION * F32)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**31 - 1),
    shape=st.sampled_from(POINT_SHAPES[:3]),
    size=st.sampled_from((1e-3, 0.3, 2.0)),
)
def test_turned_problems_have_turned_answers(seed, shape, size):
    rng = np.random.default_rng(seed)
    point, tangent = tangent_pair(rng, shape, size)
    rows, columns = orthonormal(rng, shape[0], shape[0]), np.eye(shape[1])
    wide = shape[0] < shape[1]
    for method in RETRACTIONS:
        # QR is not the same in other coordinates of the shorter side.
        if method != "qr":
            columns = orthonormal(rng, shape[1], shape[1])
        elif wide:
            rows, columns = np.eye(shape[0]), orthonormal(rng, shape[1], shape[1])

        def turned(array, rows=rows, columns=columns):
            return (rows @ array @ columns).astype(np.float32)

        found = retract(turned(point), turned(tangent), method=method)
        straight = retract(
            point.astype(np.float32), tangent.astype(np.float32), method=method
        )
        bound = RETRACTION * F32 * (1.0 + size) ** 3
        expected = rows @ np.asarray(straight, np.float64) @ columns
        np.testing.assert_allclose(found, expected, atol=bound)


@by_method
def test_what_is_not_finite_shows(method):
    point = np.eye(6, dtype=np.float32)
    tangent = np.zeros((6, 6), np.float32)
    tangent[0, 1] = np.nan
    assert np.any(np.isnan(retract(point, tangent, method=method)))


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    point = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="method="):
        retract(point, point, method="exp")
    for method in RETRACTIONS:
        with pytest.raises(ValueError, match="tangent="):
            retract(point, point[:2], method=method)
        with pytest.raises(ValueError, match="point="):
            retract(point.astype(int), point, method=method)


def test_table_covers_every_retraction_and_dtype():
    assert {case[0] for case in RETRACTION_CASES} == set(RETRACTIONS)
    assert {case[2] for case in RETRACTION_CASES} == set(DTYPES)
