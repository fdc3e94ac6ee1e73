# SPDX-License-Identifier: Apache-2.0
"""Polar factor by invariants: orthonormal, nearest, equivariant, any rank."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from tests.cases import CONDITIONS, SHAPES, orthonormal, prescribed
from tests.tolerances import POLAR, eps

F32 = eps(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_factor_is_orthonormal_and_leaves_a_positive_part(shape, condition):
    matrix = prescribed(np.random.default_rng(0), shape, condition)
    polar = ja.polar_factor(matrix)
    assert float(polar.orthogonality_error) <= POLAR * F32
    assert bool(polar.converged)
    assert int(polar.iterations) == 0
    factor = np.asarray(polar.factor, np.float64)
    small = factor.T @ matrix if shape[0] >= shape[1] else matrix @ factor.T
    np.testing.assert_allclose(small, small.T, atol=POLAR * F32)
    assert (
        np.linalg.eigvalsh((small + small.T) / 2).min() >= 1 / condition - POLAR * F32
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_factor_of_a_turned_matrix_is_turned(shape):
    rng = np.random.default_rng(1)
    matrix = prescribed(rng, shape, 10.0)
    turn = orthonormal(rng, shape[1], shape[1]).astype(np.float32)
    left = ja.polar_factor(matrix @ turn).factor
    right = ja.polar_factor(matrix).factor @ turn
    # Rounding of the product, times the sensitivity: condition 10.
    np.testing.assert_allclose(left, right, atol=10 * POLAR * F32)


def test_rank_deficient_is_still_orthonormal():
    matrix = prescribed(np.random.default_rng(2), (16, 16), 10.0, rank=5)
    assert float(ja.polar_factor(matrix).orthogonality_error) <= POLAR * F32


def test_batch_is_a_loop_and_half_precision_works():
    rng = np.random.default_rng(3)
    stack = np.stack([prescribed(rng, (8, 6), 10.0) for _ in range(6)])
    batched = ja.polar_factor(stack.reshape(2, 3, 8, 6))
    assert batched.factor.shape == (2, 3, 8, 6)
    assert batched.converged.shape == (2, 3)
    loop = np.stack([ja.polar_factor(matrix).factor for matrix in stack])
    np.testing.assert_allclose(batched.factor.reshape(6, 8, 6), loop, atol=POLAR * F32)
    half = ja.polar_factor(jnp.asarray(stack[0], jnp.bfloat16))
    assert half.factor.dtype == jnp.float32


def test_not_a_number_is_not_converged():
    assert not bool(ja.polar_factor(jnp.full((3, 3), jnp.nan)).converged)


def test_sharded_batch_needs_no_communication():
    sharding = ja.row_sharding(ja.data_mesh())
    matrices = jax.device_put(jnp.ones((8, 4, 4)) + jnp.eye(4)[None], sharding)
    solve = jax.jit(lambda m: ja.polar_factor(m).factor, out_shardings=sharding)
    text = solve.lower(matrices).compile().as_text()
    for collective in ("all-reduce", "all-gather", "all-to-all", "permute"):
        assert collective not in text


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="pass a matrix such as"):
        ja.polar_factor(np.ones(3, np.float32))
    with pytest.raises(ValueError, match="leave it out for 'svd'"):
        ja.polar_factor(np.eye(3, dtype=np.float32), method="lu")
