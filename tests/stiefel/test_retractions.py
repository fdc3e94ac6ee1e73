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
from jaxalign.stiefel import polar_step, qr_step, retractions
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
def test_steps_of_any_length_end_on_the_manifold(method, shape, dtype):
    rng = np.random.default_rng(0)
    with x64_for(dtype):
        for size in (0.0, 1e-4, 0.01, 0.05, 0.3, 1.0, 3.0, 10.0, 1e3):
            point, tangent = tangent_pair(rng, shape, size, dtype=dtype)
            found = retract(point, tangent, method=method)
            assert found.shape == shape
            assert found.dtype == dtype
            if method == "cayley_iterative" and size > 1.0:
                # Documented: nothing is promised there.
                continue
            assert manifold_error(found) <= retraction(dtype, method, size)
            if size == 0.0:
                np.testing.assert_allclose(found, point, atol=RETRACTION * eps(dtype))


@pytest.mark.usefixtures("x64")
@by_method
@by_shape
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
        # One column is on a sphere, of which a step's error is odd in its length.
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
        point, tangent = tangent_pair(rng, (8, 8), size, dtype=np.float32)
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
def test_batch_is_loop_is_vmap_is_scan(method, shape):
    rng = np.random.default_rng(5)
    sizes = (1e-3, 0.1, 0.5, 0.02)
    pairs = [tangent_pair(rng, shape, size, dtype=np.float32) for size in sizes]
    points, tangents = (np.stack(side) for side in zip(*pairs, strict=True))
    call = functools.partial(retract, method=method)
    alone = np.stack([call(*pair) for pair in pairs])
    twice = (2, 2, *shape)
    batched = call(points.reshape(twice), tangents.reshape(twice))
    mapped = jax.vmap(call)(points, tangents)
    _, scanned = jax.lax.scan(lambda _, pair: (0, call(*pair)), 0, (points, tangents))
    for found in (batched.reshape(points.shape), mapped, scanned):
        np.testing.assert_allclose(found, alone, atol=RETRACTION * F32)


@by_method
@pytest.mark.parametrize("determinant", [1, -1])
def test_component_is_kept_by_long_steps_and_long_paths(method, determinant):
    rng = np.random.default_rng(6)
    iterative = method == "cayley_iterative"
    for size in (0.1, 0.5) if iterative else (0.1, 1.0, 3.2, 100.0, 1e3):
        pair = tangent_pair(
            rng, (5, 5), size, determinant=determinant, dtype=np.float32
        )
        assert int(component(retract(*pair, method=method))) == determinant
    start, _ = tangent_pair(rng, (5, 5), 1.0, determinant=determinant, dtype=np.float32)
    # Short enough for the series, whose errors add up.
    size = 0.004 if iterative else 0.2

    def step(point, key):
        drawn = jax.random.normal(key, point.shape)
        tangent = size * project_tangent(point, drawn)
        return retract(point, tangent, method=method), None

    keys = jax.random.split(jax.random.key(1), 1000)
    end, _ = jax.jit(lambda point: jax.lax.scan(step, point, keys))(start)
    assert int(component(end)) == determinant
    exact = method in ("qr", "polar")
    assert manifold_error(end) <= (RETRACTION if exact else PATH) * F32
    # It has been somewhere: this is no path of steps that are all thrown away.
    assert np.linalg.norm(np.asarray(end) - start) > 0.1


@pytest.mark.usefixtures("x64")
@by_method
@pytest.mark.parametrize("shape", POINT_SHAPES[:3])
def test_derivatives_are_those_of_finite_differences(method, shape):
    rng = np.random.default_rng(7)
    point, tangent = tangent_pair(rng, shape, 0.7)
    call = functools.partial(retract, method=method)
    check_grads(call, (point, tangent), order=1, atol=1e-6, rtol=1e-6)


@pytest.mark.usefixtures("x64")
@by_method
def test_derivatives_of_a_batch_are_those_of_its_entries(method):
    pairs, loss = pairs_and_loss(method)
    points, tangents = (np.stack(side) for side in zip(*pairs, strict=True))
    slope = jax.jit(jax.grad(loss, 1))
    batched = slope(points, tangents)
    for k, pair in enumerate(pairs):
        np.testing.assert_allclose(batched[k], slope(*pair), atol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@by_method
def test_second_derivatives(method):
    pairs, loss = pairs_and_loss(method)
    check_grads(loss, pairs[1], order=2, modes=["rev"], atol=1e-5, rtol=1e-5)


def pairs_and_loss(method):
    """A short step and a long one, and a function of the points they reach."""
    rng = np.random.default_rng(8)
    pairs = [tangent_pair(rng, (4, 3), size) for size in (0.01, 0.7)]

    def loss(point, tangent):
        return jnp.sum(retract(point, tangent, method=method) ** 3)

    return pairs, loss


@by_method
def test_half_precision_is_computed_in_float32(method):
    dtype = jnp.bfloat16
    point, tangent = tangent_pair(np.random.default_rng(9), (6, 4), 0.3)
    point, tangent = jnp.asarray(point, dtype), jnp.asarray(tangent, dtype)
    found = retract(point, tangent, method=method)
    assert found.dtype == dtype
    wide = retract(
        point.astype(jnp.float32), tangent.astype(jnp.float32), method=method
    )
    np.testing.assert_array_equal(found, wide.astype(dtype))


@by_method
def test_second_call_compiles_nothing(method):
    rng = np.random.default_rng(10)
    traced = []

    @jax.jit
    def call(point, tangent):
        traced.append(point)
        return retract(point, tangent, method=method)

    for size in (0.01, 2.0):
        pair = tangent_pair(rng, (6, 6), size, dtype=np.float32)
        call(*pair)
        retract(*pair, method=method)
    assert len(traced) == 1
    programs = retractions._qr._cache_size, retractions._polar._cache_size
    before = [size() for size in programs]
    retract(*pair, method=method)
    assert [size() for size in programs] == before


@by_method
@pytest.mark.parametrize("shape", POINT_SHAPES[:2])
def test_sharded_batch_needs_no_communication_nor_do_its_derivatives(method, shape):
    rng = np.random.default_rng(11)
    pairs = [tangent_pair(rng, shape, 0.1 * k, dtype=np.float32) for k in range(8)]
    points, tangents = (np.stack(side) for side in zip(*pairs, strict=True))
    sharding = ja.row_sharding(ja.data_mesh())
    split = jax.device_put((points, tangents), sharding)

    def step(point, tangent):
        found, pull = jax.vjp(functools.partial(retract, method=method), point, tangent)
        return found, pull(found)

    compiled = jax.jit(step).lower(*split).compile()
    text = compiled.as_text()
    assert_no_collective(text)
    found, _ = compiled(*split)
    assert found.sharding.is_equivalent_to(sharding, 3)
    alone = retract(points, tangents, method=method)
    np.testing.assert_allclose(found, alone, atol=RETRACTION * F32)


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
    point = np.eye(4, dtype=np.float32)
    tangent = np.zeros((4, 4), np.float32)
    tangent[0, 1] = np.nan
    assert np.any(np.isnan(retract(point, tangent, method=method)))


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_say_what_to_do():
    point = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="leave it out for 'polar'"):
        retract(point, point, method="exp")
    for method in RETRACTIONS:
        with pytest.raises(ValueError, match="broadcast the two first"):
            retract(point, point[:2], method=method)
        with pytest.raises(ValueError, match="pass a matrix such as"):
            retract(point, point.astype(int), method=method)


def test_table_covers_every_retraction_and_dtype():
    assert {case[0] for case in RETRACTION_CASES} == set(RETRACTIONS)
    assert {case[2] for case in RETRACTION_CASES} == set(DTYPES)
