# SPDX-License-Identifier: Apache-2.0
"""What holds of every objective: derivatives, symmetries, padding, batches, jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.stiefel.objectives.table import (
    OBJECTIVES,
    ROWS,
    SHAPES,
    random_map,
    random_rows,
    random_weights,
    riemannian,
    value_and_gradient,
)
from tests.tolerances import OBJECTIVE, eps

F64 = eps(np.float64)
NAMES = tuple(OBJECTIVES)

pytestmark = pytest.mark.usefixtures("x64")


# One shape, wider on the target's side, so that one program serves all laws. The energy
# of rows depends on it for some.
SHAPE = SHAPES[1]
CASES = [(name, SHAPE) for name in NAMES] + [
    (name, SHAPES[2]) for name in ("kernel", "huber", "cosine-map")
]
# One of each class; the kernel's does all that is asked of others from moments.
KINDS = (
    "kernel",
    "huber",
    "cosine-map",
    "contrastive-blocks",
    "csls",
    "weighted",
)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_gradient_is_that_of_finite_differences_and_rotations_move_it(name, shape):
    source, target = random_rows(0, shape)
    weights = random_weights(1)
    point = random_map(2, shape)
    objective = OBJECTIVES[name](source, target, weights)
    found, gradient = value_and_gradient(objective, jnp.asarray(point))
    assert gradient.dtype == jnp.float64
    rng = np.random.default_rng(3)
    step = 1e-5
    for _ in range(3):
        way = rng.standard_normal(shape)
        ahead, behind = (
            float(value_and_gradient(objective, jnp.asarray(point + t * way))[0])
            for t in (step, -step)
        )
        # Central differences err by step^2 and by eps / step: 1e-10 and 1e-11.
        expected = (ahead - behind) / (2 * step)
        assert float(np.vdot(gradient, way)) == pytest.approx(
            expected, rel=1e-6, abs=1e-7
        )
    # Turned source rows and a map that turns them back are the same thing.
    turn = random_map(4, (shape[1], shape[1]))
    turned = OBJECTIVES[name](source @ turn.T, target, weights)
    again, moved = value_and_gradient(turned, jnp.asarray(point @ turn.T))
    np.testing.assert_allclose(again, found, rtol=OBJECTIVE * F64)
    np.testing.assert_allclose(moved, gradient @ turn.T, atol=OBJECTIVE * F64)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_weight_zero_may_hold_anything(name):
    source, target = random_rows(5, SHAPE)
    weights = random_weights(6)
    # Labels of the table repeat every four rows: eight of them are whole.
    weights[8:] = 0.0
    point = jnp.asarray(random_map(7, SHAPE))
    for filling in (np.nan, np.inf, 1e6):
        spoilt = source.copy(), target.copy()
        for side in spoilt:
            side[8:] = filling
        found = value_and_gradient(OBJECTIVES[name](*spoilt, weights), point)
        if filling is np.nan:
            first = found
        for one, other in zip(found, first, strict=True):
            assert np.all(np.isfinite(one))
            np.testing.assert_array_equal(one, other)
    if name not in KINDS:
        return  # Other sizes compile anew.
    plain = OBJECTIVES[name](source[:8], target[:8], weights[:8])
    for one, other in zip(first, value_and_gradient(plain, point), strict=True):
        np.testing.assert_allclose(one, other, atol=OBJECTIVE * F64)
    # All rows of one weight are rows without weights, of any number of them.
    equal = OBJECTIVES[name](source[:8], target[:8], np.full(8, 3.0))
    bare = OBJECTIVES[name](source[:8], target[:8])
    for one, other in zip(
        value_and_gradient(equal, point),
        value_and_gradient(bare, point),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=OBJECTIVE * F64)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_that_counts_and_is_not_finite_shows(name):
    source, target = random_rows(5, SHAPE)
    source[3] = np.nan
    objective = OBJECTIVES[name](source, target, random_weights(6))
    assert np.isnan(value_and_gradient(objective, jnp.asarray(random_map(7, SHAPE)))[0])


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_at_all_say_nothing(name):
    source, target = random_rows(8, SHAPE)
    objective = OBJECTIVES[name](source, target, np.zeros(ROWS))
    found, gradient = value_and_gradient(objective, jnp.asarray(random_map(9, SHAPE)))
    assert float(found) == 0.0
    assert not np.any(gradient)


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_is_a_loop_and_leading_axes_broadcast(name):
    sources, targets = random_rows(10, SHAPE, leading=(2,))
    weights = np.stack([random_weights(11), random_weights(12)])
    points = np.stack([random_map(seed, SHAPE) for seed in (13, 14, 15)])
    together = OBJECTIVES[name](sources, targets, weights)
    table, gradient = value_and_gradient_table(together, jnp.asarray(points)[:, None])
    assert table.shape == (3, 2)
    for p, point in enumerate(jnp.asarray(points)):
        total = 0.0
        for g in range(2):
            alone = OBJECTIVES[name](sources[g], targets[g], weights[g])
            expected, slope = value_and_gradient(alone, point)
            np.testing.assert_allclose(table[p, g], expected, atol=OBJECTIVE * F64)
            total = total + slope
        np.testing.assert_allclose(gradient[p, 0], total, atol=OBJECTIVE * F64)
    if name in ("kernel", "cosine-map"):
        # Data without leading axes take points with some, and the other way round.
        columns, row = evaluate(alone, points), evaluate(together, points[2])
        np.testing.assert_allclose(columns, table[:, 1], atol=OBJECTIVE * F64)
        np.testing.assert_allclose(row, table[2], atol=OBJECTIVE * F64)


@jax.jit
def evaluate(objective, points):
    return objective(points)


@jax.jit
def value_and_gradient_table(objective, points):
    def total(points):
        table = objective(points)
        return jnp.sum(table), table

    (_, table), gradient = jax.value_and_grad(total, has_aux=True)(points)
    return table, gradient


@pytest.mark.parametrize("name", KINDS)
def test_a_second_objective_does_not_retrace_and_one_can_be_made_within_jit(name):
    point = jnp.asarray(random_map(16, SHAPE))

    @jax.jit
    def step(source, target, weights, point):
        return OBJECTIVES[name](source, target, weights)(point)

    programs = set()
    for seed in (17, 18):
        rows = (*random_rows(seed, SHAPE), random_weights(seed))
        apart, _ = value_and_gradient(OBJECTIVES[name](*rows), point)
        within = step(*rows, point)
        programs.add((value_and_gradient._cache_size(), step._cache_size()))
        np.testing.assert_allclose(within, apart, atol=OBJECTIVE * F64)
    assert len(programs) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_map_is_a_minimum(name):
    rng = np.random.default_rng(19)
    planted = random_map(20, SHAPE)
    source = rng.standard_normal((ROWS, SHAPE[1])) + 0.3
    target = source @ planted.T
    if name == "cosine-query":
        # It compares centred rows with target rows as they are: let them be centred.
        target = target - target.mean(axis=0)
    objective = OBJECTIVES[name](source, target)
    lowest, gradient = value_and_gradient(objective, jnp.asarray(planted))
    tangent = riemannian(planted, gradient)
    assert np.abs(tangent).max() <= OBJECTIVE * F64
    for size in (1e-2, 0.3):
        for _ in range(5):
            way = planted + size * rng.standard_normal(SHAPE)
            u, _, vt = np.linalg.svd(way, full_matrices=False)
            higher, _ = value_and_gradient(objective, jnp.asarray(u @ vt))
            assert float(higher) > float(lowest)
    if name != "csls" and not name.startswith("contrastive"):
        assert float(lowest) == pytest.approx(0.0, abs=OBJECTIVE * F64)
    if hasattr(objective, "closed_form_start"):
        np.testing.assert_allclose(
            objective.closed_form_start(), planted, atol=OBJECTIVE * F64
        )


@pytest.mark.parametrize("name", KINDS)
def test_values_come_in_the_dtype_of_the_data(name):
    source, target = (side.astype(np.float32) for side in random_rows(21, SHAPE))
    weights = random_weights(21).astype(np.float32)
    point = random_map(22, SHAPE).astype(np.float32)
    with jax.enable_x64(False):
        single = OBJECTIVES[name](source, target, weights)
        found, gradient = value_and_gradient(single, jnp.asarray(point))
        assert found.dtype == gradient.dtype == jnp.float32
        half = jax.eval_shape(single, jax.ShapeDtypeStruct(SHAPE, jnp.bfloat16))
        assert half.dtype == jnp.float32
    wide = (side.astype(np.float64) for side in (source, target, weights))
    double, _ = value_and_gradient(OBJECTIVES[name](*wide), jnp.asarray(point, float))
    assert float(found) == pytest.approx(float(double), abs=OBJECTIVE * eps(np.float32))


@pytest.mark.usefixtures("no_shape_hook")
def test_a_map_of_the_other_direction_is_refused():
    source, target = random_rows(23, SHAPE)
    for name in KINDS:
        objective = OBJECTIVES[name](source, target)
        with pytest.raises(ValueError, match=r"\(point"):
            objective(jnp.zeros(SHAPE[::-1]))
