# SPDX-License-Identifier: Apache-2.0
"""Polar factor by invariants: orthonormal, nearest, equivariant, any rank and tie."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.test_util import check_grads

import jaxalign as ja
from tests.cases import (
    CONDITIONS,
    ITERATIVE,
    METHODS,
    POLAR_CASES,
    orthonormal,
    prescribed,
    x64_for,
)
from tests.collectives import assert_no_collective
from tests.tolerances import POLAR, eps, polar_difference

F32 = eps(np.float32)
FLOAT32 = [case[:2] for case in POLAR_CASES if case[2] == np.float32]


@pytest.mark.parametrize(("method", "shape", "dtype"), POLAR_CASES, ids=str)
def test_factor_is_orthonormal_nearest_and_that_of_scipy(method, shape, dtype):
    rng = np.random.default_rng(0)
    tall = shape[0] >= shape[1]
    for condition in CONDITIONS:
        matrix = prescribed(rng, shape, condition, dtype=dtype)
        with x64_for(dtype):
            polar = ja.solve.polar_factor(matrix, method=method)
        assert polar.factor.dtype == dtype
        assert bool(polar.converged)
        assert (int(polar.iterations) > 0) == (method in ITERATIVE)
        factor = np.asarray(polar.factor, np.float64)
        gram = factor.T @ factor if tall else factor @ factor.T
        measured = np.max(np.abs(gram - np.eye(len(gram))))
        assert measured <= POLAR * eps(dtype)
        # The error that is reported is the one that is there.
        assert abs(float(polar.orthogonality_error) - measured) <= 2 * eps(dtype)
        exact, _ = scipy.linalg.polar(matrix.astype(np.float64))
        bound = polar_difference(dtype, condition)
        np.testing.assert_allclose(factor, exact, atol=bound)
        best = np.sum(factor * matrix)
        for size in (1e-2, 1.0):
            skew = size * rng.standard_normal((shape[0], shape[0]))
            turned = scipy.linalg.expm(skew - skew.T) @ factor
            assert np.sum(turned * matrix) <= best + POLAR * eps(dtype)


@functools.cache
def wide_problem(width):
    """A matrix of condition 10, and its polar factor by construction."""
    rng = np.random.default_rng(1)
    left, right = (orthonormal(rng, width, width) for _ in range(2))
    # Rounding to float32 moves the factor by less than an eps.
    matrix = (left * np.geomspace(1.0, 0.1, width)) @ right
    return matrix.astype(np.float32), left @ right


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("width", [192, pytest.param(512, marks=pytest.mark.slow)])
def test_methods_agree_to_20_eps_at_large_widths(method, width):
    matrix, exact = wide_problem(width)
    polar = ja.solve.polar_factor(matrix, method=method)
    assert bool(polar.converged)
    np.testing.assert_allclose(polar.factor, exact, atol=0.6 * POLAR * F32)
    assert float(polar.orthogonality_error) <= POLAR * F32
    # What is promised of any two is asked of them.
    if method != "svd":
        by_svd = ja.solve.polar_factor(matrix).factor
        np.testing.assert_allclose(polar.factor, by_svd, atol=POLAR * F32)


@pytest.mark.parametrize(("method", "shape"), FLOAT32, ids=str)
def test_factor_of_a_turned_and_scaled_matrix_is_turned(method, shape):
    rng = np.random.default_rng(1)
    matrix = prescribed(rng, shape, 10.0)
    turn = orthonormal(rng, shape[1], shape[1]).astype(np.float32)
    plain = ja.solve.polar_factor(matrix, method=method).factor
    for factor in (1e-12, 1.0, 1e12):
        turned = ja.solve.polar_factor(factor * matrix @ turn, method=method).factor
        # Rounding of the product, times the sensitivity: condition 10.
        np.testing.assert_allclose(turned, plain @ turn, atol=10 * POLAR * F32)


@pytest.mark.parametrize(("method", "shape"), FLOAT32, ids=str)
def test_rank_deficient_passes_as_orthonormal_only_if_it_is(method, shape):
    for rank in (0, 5, 15):
        matrix = prescribed(np.random.default_rng(2), shape, 10.0, rank=rank)
        polar = ja.solve.polar_factor(matrix, method=method)
        assert bool(polar.converged) == (method == "svd")
        if method == "svd":
            assert float(polar.orthogonality_error) <= POLAR * F32


@pytest.mark.parametrize("method", METHODS)
def test_each_of_a_batch_goes_its_own_way(method):
    rng = np.random.default_rng(3)
    # Entries converge at different steps, one does not at all.
    ranks = (6, 6, 6, 6, 6, 3)
    stack = np.stack(
        [
            prescribed(rng, (8, 6), 10.0**k, rank=rank)
            for k, rank in zip(range(6), ranks, strict=True)
        ]
    )
    mapped = jax.vmap(lambda one: ja.solve.polar_factor(one, method=method))(stack)
    for k, matrix in enumerate(stack[:2]):
        exact, _ = scipy.linalg.polar(matrix.astype(np.float64))
        np.testing.assert_allclose(mapped.factor[k], exact, atol=POLAR * F32)
    assert np.asarray(mapped.converged).tolist() == [True] * 5 + [method == "svd"]


def test_half_precision_is_factorised_in_float32():
    matrix = prescribed(np.random.default_rng(3), (6, 6), 10.0)
    half = jnp.asarray(matrix, jnp.bfloat16)
    found = ja.solve.polar_factor(half).factor
    assert found.dtype == jnp.float32
    exact, _ = scipy.linalg.polar(np.asarray(half, np.float64))
    np.testing.assert_allclose(found, exact, atol=POLAR * F32)


@pytest.mark.parametrize(("method", "shape"), FLOAT32, ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_converged(method, shape, bad):
    matrix = np.eye(*shape, dtype=np.float32)
    matrix[3, 4] = bad
    assert not bool(ja.solve.polar_factor(matrix, method=method).converged)


@pytest.mark.parametrize(
    # Equal widths, and either way of leaving a space out.
    ("method", "shape"),
    [("svd", (5, 5)), ("svd", (4, 6)), ("newton_schulz", (6, 4))],
)
@pytest.mark.usefixtures("x64")
def test_gradient_is_that_of_finite_differences_with_ties(method, shape):
    rng = np.random.default_rng(4)
    k = min(shape)
    values = np.array([2.0, 2.0, 1.0, 1.0, 1.0])[:k]
    left, right = orthonormal(rng, shape[0], k), orthonormal(rng, k, shape[1])
    matrix = jnp.asarray((left * values) @ right)
    check_grads(
        jax.jit(lambda c: ja.solve.polar_factor(c, method=method).factor),
        (matrix,),
        order=1,
        modes=["rev"],
        # Differences of step 1e-6 or so of a function of curvature about one.
        atol=1e-6,
        rtol=1e-6,
    )


@pytest.mark.usefixtures("x64")
def test_second_derivative_and_derivative_of_a_batch():
    rng = np.random.default_rng(5)
    stack = jnp.asarray(rng.standard_normal((2, 3, 3)))

    def factor(one):
        return ja.solve.polar_factor(one).factor

    slope = jax.jit(jax.jacrev(factor))
    second = jax.jit(jax.jacfwd(slope))(stack[0])
    step = 1e-6 * jnp.asarray(rng.standard_normal((3, 3)))
    between = (slope(stack[0] + step) - slope(stack[0] - step)) / 2e-6
    along = jnp.tensordot(second, step / 1e-6, axes=[[4, 5], [0, 1]])
    np.testing.assert_allclose(along, between, atol=1e-6, rtol=1e-6)
    batched = jax.jit(jax.jacobian(factor))(stack)
    for k in range(2):
        alone = slope(stack[k])
        np.testing.assert_allclose(batched[k, :, :, k], alone, atol=1e-12)
        assert not np.any(batched[k, :, :, 1 - k])


def test_gradient_of_the_arbitrary_part_is_zero():
    matrix = prescribed(np.random.default_rng(6), (6, 6), 10.0, rank=3)
    gradient = jax.grad(lambda c: jnp.sum(ja.solve.polar_factor(c).factor ** 3))(matrix)
    assert np.all(np.isfinite(gradient))


@pytest.mark.compiled_text
@pytest.mark.parametrize("method", ["svd", "newton_schulz"])
def test_derivative_of_a_sharded_batch_needs_no_communication(method):
    sharding = ja.sharding.row_sharding(ja.sharding.data_mesh())
    rows = np.random.default_rng(7).standard_normal((16, 5, 4)).astype(np.float32)
    matrices = jax.device_put(rows, sharding)

    def loss(batch):
        return jnp.sum(
            ja.solve.polar_factor(batch, method=method).factor ** 3, axis=(1, 2)
        )

    slope = jax.jit(lambda m: jax.vjp(loss, m)[1](jnp.ones(16))[0])
    text = slope.lower(matrices).compile().as_text()
    assert_no_collective(text)


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    square = np.eye(3, dtype=np.float32)
    for wrong in (square[0], square[:0], square.astype(int), 1j * square, [[1.0]]):
        with pytest.raises(ValueError, match=r"polar_factor\(matrix=") as error:
            ja.solve.polar_factor(wrong)
        assert "expected" in str(error.value)
    with pytest.raises(ValueError, match="method='lu'"):
        ja.solve.polar_factor(square, method="lu")
