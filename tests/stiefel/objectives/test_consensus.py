# SPDX-License-Identifier: Apache-2.0
"""Consensus objective: pairs of rows in one frame, and the closed form as its start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.stiefel.objectives import consensus_objective
from tests.cases import orthonormal
from tests.stiefel.objectives.table import (
    moments_of_rows,
    riemannian,
    value_and_gradient,
)
from tests.tolerances import OBJECTIVE, descent, eps

F64 = eps(np.float64)
TRIANGLE = ((0, 1), (1, 2), (2, 0))

pytestmark = pytest.mark.usefixtures("x64")


def models(seed, widths, noise=0.4, n=40):
    """Rows of models that see the same things, each in its own frame."""
    rng = np.random.default_rng(seed)
    seen = rng.standard_normal((n, min(widths))) + 0.5
    return [
        seen @ orthonormal(rng, width, min(widths)).T
        + noise * rng.standard_normal((n, width))
        for width in widths
    ]


def moments_of(rows):
    return [moments_of_rows(rows[i], rows[j]) for i, j in TRIANGLE]


def disagreement(rows, maps):
    """Mean squared distance of the pairs in the frame, row by row."""
    moved = [
        (side - side.mean(axis=0)) @ np.asarray(one).T
        for side, one in zip(rows, maps, strict=True)
    ]
    squares = [np.sum((moved[i] - moved[j]) ** 2, axis=1) for i, j in TRIANGLE]
    return np.mean(np.concatenate(squares))


@pytest.mark.parametrize("widths", [(4, 4, 4), (4, 5, 6)])
def test_values_are_those_of_a_loop_and_the_closed_form_is_a_start(widths):
    rows = models(0, widths)
    moments = moments_of(rows)
    objective = consensus_objective(moments, TRIANGLE)
    rng = np.random.default_rng(1)
    maps = tuple(jnp.asarray(orthonormal(rng, 4, width)) for width in widths)
    loss = jax.jit(jax.value_and_grad(lambda objective, maps: objective(maps), 1))
    found, _ = loss(objective, maps)
    expected = disagreement(rows, maps)
    assert float(found) == pytest.approx(expected, rel=OBJECTIVE * F64)
    start = objective.closed_form_start()
    solved = ja.solve.solve_consensus(moments, TRIANGLE)
    for one, other in zip(start, solved.rotations, strict=True):
        np.testing.assert_array_equal(one, other)
    lowest, gradients = loss(objective, tuple(start))
    assert float(lowest) < float(found)
    if len(set(widths)) > 1:
        assert isinstance(start, tuple)
        return
    # Of equal widths, a start at rest: to the gradient at which it was stopped.
    for one, gradient in zip(start, gradients, strict=True):
        size = np.linalg.norm(gradient)
        assert np.linalg.norm(riemannian(one, gradient)) <= descent(np.float64) * size
    assert start.shape == (3, 4, 4)
    stacked = jnp.asarray(np.stack([np.stack(maps), start]))
    table = jax.jit(lambda objective, points: objective(points))(objective, stacked)
    np.testing.assert_allclose(table, [found, lowest], rtol=OBJECTIVE * F64)


def test_turning_the_frame_changes_nothing_and_planted_frames_agree():
    rows = models(2, (4, 4, 4), noise=0.0)
    objective = consensus_objective(moments_of(rows), TRIANGLE)
    rng = np.random.default_rng(3)
    points = np.stack([orthonormal(rng, 4, 4) for _ in range(3)])
    turned = orthonormal(rng, 4, 4) @ points
    lowest, before, after = (
        float(value_and_gradient(objective, jnp.asarray(point))[0])
        for point in (objective.closed_form_start(), points, turned)
    )
    assert lowest == pytest.approx(0.0, abs=OBJECTIVE * F64)
    assert after == pytest.approx(before, rel=OBJECTIVE * F64)


def test_a_second_objective_does_not_retrace():
    programs, point = set(), jnp.asarray(np.stack([np.eye(4)] * 3))
    for seed in (4, 5):
        parts = moments_of(models(seed, (4, 4, 4)))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
        one, other = (consensus_objective(held, TRIANGLE) for held in (parts, stacked))
        by_list, _ = value_and_gradient(one, point)
        by_axis, _ = value_and_gradient(other, point)
        np.testing.assert_array_equal(by_list, by_axis)
        programs.add(value_and_gradient._cache_size())
    assert len(programs) == 1


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    parts = moments_of(models(6, (4, 4, 5)))
    bare = [part.replace(source_gram=None, target_gram=None) for part in parts]
    objective = consensus_objective(parts, TRIANGLE)
    for call, name in (
        (lambda: consensus_objective(parts, TRIANGLE[:2]), "pair"),
        (lambda: consensus_objective(bare, TRIANGLE), "pair_moments="),
        (lambda: consensus_objective(parts, TRIANGLE, width=9), "width="),
        (lambda: objective(np.zeros((4, 4))), r"\(point\)"),
        (lambda: objective([np.eye(4)] * 3), r"\(point\)"),
    ):
        with pytest.raises(ValueError, match=rf"`consensus_objective\(.*{name}"):
            call()
