# SPDX-License-Identifier: Apache-2.0
"""Cayley retractions against the n x n transform, solved densely in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxalign.stiefel import cayley
from jaxalign.stiefel.cayley import retract_cayley, retract_cayley_iterative
from tests.cases import POINT_SHAPES, manifold_error, tangent_pair
from tests.tolerances import POLAR, RETRACTION, eps

F32 = eps(np.float32)
# Square and tall; a wide point is a tall one's transpose, as everywhere.
by_shape = pytest.mark.parametrize("shape", POINT_SHAPES[:2])


def skew_matrix(point, tangent):
    """W of the tall side: P xi X' - X xi' P, of which W X is the tangent vector."""
    projector = np.eye(len(point)) - point @ point.T / 2
    half = projector @ tangent @ point.T
    return half - half.T


def tall(array):
    array = np.asarray(array, np.float64)
    return array if array.shape[0] >= array.shape[1] else array.T


@by_shape
def test_exact_transform_is_that_of_a_dense_solve(shape):
    rng = np.random.default_rng(0)
    for size in (1e-3, 0.3, 3.0):
        point, tangent = tangent_pair(rng, shape, size, dtype=np.float32)
        x, xi = tall(point), tall(tangent)
        matrix, identity = skew_matrix(x, xi), np.eye(len(x))
        np.testing.assert_allclose(matrix @ x, xi, atol=POLAR * F32 * (1.0 + size))
        expected = scipy.linalg.solve(
            identity - matrix / 2, (identity + matrix / 2) @ x
        )
        found = tall(retract_cayley(point, tangent))
        bound = RETRACTION * F32 * (1.0 + size)
        np.testing.assert_allclose(found, expected, atol=bound)


@by_shape
def test_rounds_are_those_of_the_dense_iteration(shape):
    rng = np.random.default_rng(1)
    point, tangent = tangent_pair(rng, shape, 0.8, dtype=np.float32)
    x, xi = tall(point), tall(tangent)
    matrix, expected = skew_matrix(x, xi), x + xi
    for iterations in range(4):
        found = retract_cayley_iterative(point, tangent, iterations=iterations)
        np.testing.assert_allclose(tall(found), expected, atol=RETRACTION * F32)
        expected = x + matrix @ (x + expected) / 2


@pytest.mark.usefixtures("x64")
@by_shape
def test_error_falls_by_half_the_norm_a_round_and_grows_beyond_two(shape):
    rng = np.random.default_rng(2)
    point, tangent = tangent_pair(rng, shape, 1.0)
    norm = np.linalg.norm(skew_matrix(tall(point), tall(tangent)), 2)
    for wanted, grows in ((0.5, False), (3.0, True)):
        step = tangent * (wanted / norm)
        exact = np.asarray(retract_cayley(point, step))
        errors = [
            np.linalg.norm(
                np.asarray(retract_cayley_iterative(point, step, iterations=rounds))
                - exact
            )
            for rounds in (1, 2, 3, 4)
        ]
        # R - Y takes on a factor W / 2 a round.
        assert np.all(np.diff(errors) > 0) == grows
        if not grows:
            ratios = np.divide(errors[1:], errors[:-1])
            assert np.all(ratios <= 0.5 * wanted * (1.0 + 1e-6))


def test_turn_by_a_known_angle():
    # In a plane the transform turns by 2 atan(a / 2).
    turn = np.zeros((6, 6), np.float32)
    turn[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]
    for size in (0.1, 1.0, 2.0, 20.0):
        angle = 2.0 * np.arctan(size / 2.0)
        expected = np.eye(6)
        expected[0, :2] = np.cos(angle), -np.sin(angle)
        expected[1, :2] = np.sin(angle), np.cos(angle)
        found = retract_cayley(np.eye(6, dtype=np.float32), size * turn)
        np.testing.assert_allclose(found, expected, atol=RETRACTION * F32)


def test_products_are_as_many_as_said(monkeypatch):
    counted = []

    def product(left, right):
        counted.append(left.shape)
        return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)

    monkeypatch.setattr(cayley, "product", product)
    # Sizes that no other test has traced: a trace that is cached counts nothing.
    square, high = jnp.zeros((17, 17)), jnp.zeros((29, 7))
    exact, iterative = cayley._cayley, cayley._cayley_iterative
    for call, array, long, all_of_them in (
        (exact, square, 1, 1),
        (exact, high, 3, 3),
        (functools.partial(iterative.__wrapped__, iterations=1), square, 3, 3),
        (functools.partial(iterative.__wrapped__, iterations=2), square, 4, 4),
        (functools.partial(iterative.__wrapped__, iterations=2), high, 4, 8),
        (functools.partial(iterative.__wrapped__, iterations=3), high, 4, 10),
    ):
        counted.clear()
        # Unjitted, so that each product is traced where it is counted.
        jax.eval_shape(getattr(call, "__wrapped__", call), array, array)
        assert len(counted) == all_of_them
        assert sum(max(array.shape) in shape for shape in counted) == long


def test_long_steps_that_leave_some_directions_alone_stay_on_the_manifold():
    # Angles from 1e-3 to 1e3: the solve's condition is at its worst.
    rng = np.random.default_rng(4)
    point, _ = tangent_pair(rng, (31, 31), 1.0)
    frame, _ = tangent_pair(rng, (31, 31), 1.0)
    turn = np.zeros((31, 31))
    first = np.arange(0, 30, 2)
    turn[first, first + 1] = np.geomspace(1e-3, 1e3, 15)
    tangent = point @ frame @ (turn - turn.T) @ frame.T
    pair = (point.astype(np.float32), tangent.astype(np.float32))
    assert manifold_error(retract_cayley(*pair)) <= RETRACTION * F32


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    point = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="iterations="):
        retract_cayley_iterative(point, point, iterations=-1)
