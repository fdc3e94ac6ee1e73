# SPDX-License-Identifier: Apache-2.0
"""Objectives from moments: against loops over rows, and against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.stiefel import contrib, objectives
from tests.stiefel.objectives.table import (
    SHAPES,
    centred,
    moments_of_rows,
    problem,
    products,
    random_map,
    random_rows,
    riemannian,
    value_and_gradient,
)
from tests.tolerances import OBJECTIVE, descent, eps

F64 = eps(np.float64)

pytestmark = pytest.mark.usefixtures("x64")


def mean_squares(point, source, target, weights):
    """Weighted mean squared error, row by row."""
    x, y = centred(source, weights), centred(target, weights)
    errors = [np.sum((point @ a - b) ** 2) for a, b in zip(x, y, strict=True)]
    return np.sum(weights * errors) / weights.sum()


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_procrustes_is_the_mean_squared_error_and_its_optimum_the_closed_form(shape):
    source, target, weights, moments = problem(0, shape)
    objective = objectives.procrustes_objective(moments)
    point = random_map(2, shape)
    found, gradient = value_and_gradient(objective, jnp.asarray(point))
    expected = mean_squares(point, source, target, weights)
    if shape[0] >= shape[1]:
        assert float(found) == pytest.approx(expected, rel=OBJECTIVE * F64)
    else:
        assert float(found) > expected  # Of the trace: an upper bound.
    start = objective.closed_form_start()
    solved = ja.solve.solve_procrustes(moments, objective="trace")
    np.testing.assert_allclose(start, solved.rotation, atol=OBJECTIVE * F64)
    lowest, same = value_and_gradient(objective, start)
    np.testing.assert_array_equal(same, gradient)
    assert np.abs(riemannian(start, gradient)).max() <= OBJECTIVE * F64
    assert float(lowest) < float(found)
    if shape[0] >= shape[1]:
        residual = float(solved.residual / moments.count)
        assert float(lowest) == pytest.approx(residual, rel=OBJECTIVE * F64)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_least_squares_is_the_mean_squared_error_of_any_matrix(shape):
    source, target, weights, moments = problem(3, shape)
    objective = objectives.least_squares_objective(moments)
    for point in (random_map(4, shape), 1.7 * random_map(5, shape) + 0.2):
        expected = mean_squares(point, source, target, weights)
        found, _ = value_and_gradient(objective, jnp.asarray(point))
        assert float(found) == pytest.approx(expected, rel=OBJECTIVE * F64)
    solved = ja.solve.solve_procrustes(moments, objective="least_squares").check()
    lowest, gradient = value_and_gradient(objective, solved.rotation)
    residual = float(solved.residual / moments.count)
    assert float(lowest) == pytest.approx(residual, rel=OBJECTIVE * F64)
    # The iteration stops at a gradient of eps^(3/4), relative to its terms.
    size = np.abs(np.asarray(gradient)).max()
    tangent = np.abs(riemannian(solved.rotation, gradient)).max()
    assert tangent <= descent(np.float64) * max(size, 1.0)
    start = objective.closed_form_start()
    trace = ja.solve.solve_procrustes(moments, objective="trace")
    np.testing.assert_allclose(start, trace.rotation, atol=OBJECTIVE * F64)
    if shape[0] < shape[1]:
        # The trace is not the error: there is something left to gain.
        assert float(value_and_gradient(objective, start)[0]) > 1.01 * float(lowest)


@pytest.mark.compiled_text
def test_products_are_as_few_as_promised():
    *_, moments = problem(6, (64, 64))
    point = jnp.asarray(random_map(7, (64, 64)))

    def both(objective, point):
        return jax.value_and_grad(lambda p: objective(p))(point)

    for objective, expected in (
        (objectives.procrustes_objective(moments), 0),
        (objectives.least_squares_objective(moments), 1),
        (contrib.kernel_objective(moments, moments.target_gram), 2),
    ):
        assert products(both, objective, point) == expected


def test_second_derivatives_are_right():
    shape = SHAPES[1]
    *_, moments = problem(8, shape)
    reference = moments.target_gram
    hessian = jax.jit(jax.hessian(contrib.kernel_objective(moments, reference)))
    found = hessian(jnp.asarray(random_map(9, shape)))
    # Of tr(M Q G Q') / n: twice M times G.
    gram = moments.source_gram / moments.count
    expected = 2 * np.einsum("ab,cd->acbd", reference, gram)
    bound = OBJECTIVE * F64 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=bound)


def test_and_so_are_those_by_the_data():
    shape = SHAPES[1]
    source, target, _, moments = problem(10, shape)
    point = jnp.asarray(random_map(11, shape))

    @jax.jit
    def loss(scale):
        rows = moments_of_rows(scale * source, target)
        one = contrib.kernel_objective(rows, scale * moments.target_gram)
        return one(point)

    found = jax.grad(loss)(jnp.asarray(1.3))
    step = 1e-5
    expected = (loss(1.3 + step) - loss(1.3 - step)) / (2 * step)
    assert float(found) == pytest.approx(float(expected), rel=1e-7)


def test_images_and_texts_together():
    shape = SHAPES[0]
    *_, images = problem(17, shape)
    *_, texts = problem(18, shape)
    parts = [objectives.procrustes_objective(one) for one in (images, texts)]
    joint = objectives.weighted_objective([(parts[0], 0.7), (parts[1], 1.9)])
    point = jnp.asarray(random_map(19, shape))
    found, _ = value_and_gradient(joint, point)
    expected = 0.7 * parts[0](point) + 1.9 * parts[1](point)
    assert float(found) == pytest.approx(float(expected), rel=OBJECTIVE * F64)
    # All parts are Procrustes: the start is the optimum.
    start = joint.closed_form_start()
    _, gradient = value_and_gradient(joint, start)
    assert np.abs(riemannian(start, gradient)).max() <= OBJECTIVE * F64
    by_one = ja.solve.solve_procrustes(
        images.replace(
            cross_covariance=0.7 * images.cross_covariance / images.count
            + 1.9 * texts.cross_covariance / texts.count
        )
    )
    np.testing.assert_allclose(start, by_one.rotation, atol=OBJECTIVE * F64)


def test_parts_of_a_sum_may_differ_in_leading_axes_and_lack_a_closed_form():
    source, target = random_rows(20, (5, 5))
    moments = moments_of_rows(np.stack([source] * 2), np.stack([target, -target]))
    batch = objectives.procrustes_objective(moments)
    one = contrib.contrastive_objective(source, target)
    joint = objectives.weighted_objective([(one, 1.0), (batch, 1.0)])
    assert jax.eval_shape(joint, jnp.eye(5)).shape == (2,)
    with pytest.raises(ValueError, match="closed_form_start"):
        joint.closed_form_start()


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    source, target = random_rows(21, SHAPES[1])
    moments = moments_of_rows(source, target)
    bare = moments.replace(source_gram=None, target_gram=None)
    part = objectives.procrustes_objective(bare)
    for call, name in (
        (lambda: objectives.procrustes_objective(source), "moments="),
        (lambda: objectives.least_squares_objective(bare), "moments="),
        (lambda: objectives.weighted_objective([]), "parts="),
        (lambda: objectives.weighted_objective([(1.0, part)]), "parts="),
        (lambda: objectives.weighted_objective([(part, -1.0)]), "parts="),
        (lambda: part(1.0), r"\(point\)"),
    ):
        with pytest.raises(ValueError, match=name):
            call()
