# SPDX-License-Identifier: Apache-2.0
"""Every optimiser x what optax promises and the manifold demands."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jaxalign as ja
from tests.collectives import assert_no_collective
from tests.stiefel.optimizer_cases import (
    ALIASES,
    OPTIMIZERS,
    SHAPES,
    descend,
    planted,
)
from tests.tolerances import OPTIMIZED, eps

# Schedules of optax divide integers by numbers.
pytestmark = pytest.mark.standard_promotion

F32 = eps(np.float32)
every_case = pytest.mark.parametrize("case", OPTIMIZERS, ids=str)


def cases(*names):
    """Cases of these names; the others share their code, and are slow tests."""
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(
                case, id=str(case), marks=[] if case.name in names else pytest.mark.slow
            )
            for case in OPTIMIZERS
        ],
    )


# One case an optimiser; its variants share all that is asked below but the step.
aliases = cases(*ALIASES)
# One for each last piece.
last_pieces = cases("riemannian_sgd", "cayley_sgd", "landing", "pogo")
# One for each form of state.
states = cases("riemannian_adam", "cayley_sgd", "landing", "pogo")


def named(name):
    """Give one case; its programs are shared."""
    return next(case for case in OPTIMIZERS if case.name == name)


def orthogonality(points):
    points = np.asarray(points, np.float64)
    if points.shape[-2] < points.shape[-1]:
        points = np.swapaxes(points, -1, -2)
    gram = np.swapaxes(points, -1, -2) @ points
    return np.abs(gram - np.eye(gram.shape[-1])).max()


def nearest(point):
    """Polar factor, in float64."""
    u, _, vt = np.linalg.svd(np.asarray(point, np.float64), full_matrices=False)
    return u @ vt


@functools.partial(jax.jit, static_argnames="optimizer")
def take_step(optimizer, cross, point, state):
    """Take one step for -<Q, C>."""
    updates, state = optimizer.update(-cross, state, point)
    return optax.apply_updates(point, updates), state


@every_case
def test_it_reaches_the_planted_rotation_of_its_component(case):
    signs = [1, -1]
    parts = [planted(0, (12, 12), sign=sign) for sign in signs]
    cross, rotation, start = (jnp.stack(part) for part in zip(*parts, strict=True))
    found, path = descend(case.build(), cross, start)
    assert np.abs(nearest(found) - rotation).max() < OPTIMIZED
    assert orthogonality(path) < case.near
    assert orthogonality(path[-1]) < 30 * F32
    # Neither a step lost the point, nor did any cross to the other component.
    found = np.sign(np.linalg.det(np.asarray(path, np.float64)))
    assert (found == signs).all()


@last_pieces
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_it_solves_tall_and_wide_points(case, shape):
    cross, _, start = planted(1, shape)
    u, s, vt = np.linalg.svd(np.asarray(cross, np.float64), full_matrices=False)
    found = nearest(descend(case.build(), cross, start)[0])
    assert s.sum() - np.sum(found * np.asarray(cross)) < OPTIMIZED * s.sum()
    assert np.abs(found - u @ vt).max() < 10 * OPTIMIZED


@pytest.mark.compiled_text
@aliases
def test_a_split_batch_is_a_loop_without_communication_or_retracing(case):
    where = NamedSharding(ja.sharding.data_mesh(), PartitionSpec("data"))
    cross, _, start = planted(4, (8, 8), batch=(8,))
    optimizer = case.build()
    split, point = jax.device_put((cross, start), where)
    state = optimizer.init(point)
    # Compiled ahead: it refuses a second state that lies elsewhere than the first.
    step = take_step.lower(optimizer, split, point, state).compile()
    assert_no_collective(step.as_text())
    for _ in range(3):
        point, state = step(split, point, state)
    # Matrices and numbers a matrix lie where their points lie.
    for leaf in [point, *jax.tree.leaves(state)]:
        if leaf.ndim == 3:
            assert leaf.sharding.is_equivalent_to(where, 3)
    for k in range(8):
        one, state = start[k], optimizer.init(start[k])
        for _ in range(3):
            one, state = take_step(optimizer, cross[k], one, state)
            if k == 0:
                traced = take_step._cache_size()
        assert np.abs(np.asarray(point[k]) - one).max() < 50 * F32
    assert take_step._cache_size() == traced


@states
def test_state_keeps_its_sharding_by_rows(case):
    where = NamedSharding(ja.sharding.data_mesh(), PartitionSpec("data"))
    cross, _, start = planted(4, (8, 8))
    split, point = jax.device_put((cross, start), where)
    optimizer = case.build()
    state = optimizer.init(point)
    step = take_step.lower(optimizer, split, point, state).compile()
    alone, own = start, optimizer.init(start)
    for _ in range(3):
        point, state = step(split, point, state)
        alone, own = take_step(optimizer, cross, alone, own)
    for leaf in [point, *jax.tree.leaves(state)]:
        if leaf.shape == start.shape:
            assert leaf.sharding.is_equivalent_to(where, 2)
    assert np.abs(np.asarray(point) - alone).max() < 50 * F32


@last_pieces
def test_vmap_is_a_loop(case):
    cross, _, start = planted(2, (8, 8), batch=(3,))
    optimizer = case.build()

    @jax.jit
    @jax.vmap
    def run(cross, point):
        state = optimizer.init(point)
        for _ in range(3):
            point, state = take_step(optimizer, cross, point, state)
        return point

    many = run(cross, start)
    for k in range(3):
        one, state = start[k], optimizer.init(start[k])
        for _ in range(3):
            one, state = take_step(optimizer, cross[k], one, state)
        assert np.abs(np.asarray(many[k]) - one).max() < 50 * F32


def test_they_take_extra_arguments_and_need_params():
    cross, _, start = planted(3, (8, 8))
    for name in ALIASES:
        optimizer = getattr(ja.stiefel, name)(0.1)
        # The plateaus of `test_feasibility.py` are given a value.
        assert isinstance(optimizer, optax.GradientTransformationExtraArgs)
        with pytest.raises(ValueError, match="params"):
            optimizer.update(cross, optimizer.init(start))


def test_multi_steps_averages_gradients():
    cross, _, start = planted(5, (8, 8))
    optimizer = named("riemannian_adam").build()
    noise = 0.1 * np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    every = optax.MultiSteps(optimizer, 2)
    update = jax.jit(every.update)
    state, point = every.init(start), start
    for gradient in (-cross + noise, -cross - noise):
        before = point
        updates, state = update(gradient, state, point)
        point = optax.apply_updates(point, updates)
    assert np.array_equal(before, start)
    expected, _ = take_step(optimizer, cross, start, optimizer.init(start))
    assert np.abs(point - expected).max() < 50 * F32


@aliases
def test_gradients_and_steps_can_be_transformed(case):
    cross, _, start = planted(6, (8, 8))
    # Entry by entry: off the tangent space, where the optimiser brings it back.
    inner = case.make(lambda count: 0.1, step_transform=optax.clip(0.02))
    chained = optax.chain(optax.clip_by_global_norm(0.5), inner)
    found, path = descend(chained, cross, start, steps=10)
    assert orthogonality(path) < case.near
    assert np.sum(np.asarray(found) * cross) > np.sum(np.asarray(start) * cross)
    # Clipped it was: no step is longer than all entries at the bound.
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=(-2, -1))
    assert 0 < lengths.max() < 8 * 0.02 * 1.1


@aliases
def test_hyperparameters_can_be_injected(case):
    cross, _, start = planted(6, (8, 8))
    schedule = optax.linear_schedule(case.rate, 0.0, 2)
    injected = optax.inject_hyperparams(case.make)(learning_rate=schedule)
    points, state = [start], injected.init(start)
    for _ in range(3):
        point, state = take_step(injected, cross, points[-1], state)
        points.append(point)
    plain = case.build()
    expected, _ = take_step(plain, cross, start, plain.init(start))
    assert np.abs(points[1] - expected).max() < 50 * F32
    assert float(state.hyperparams["learning_rate"]) == 0.0
    # The point rests then, but for the correction of what the step before has left.
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=(-2, -1))
    assert lengths[2] < 0.3 * lengths[1]


def test_masked_leaves_are_left_alone():
    cross, _, start = planted(7, (8, 8))
    params = {"turn": start, "rest": jnp.ones((3,))}
    optimizer = optax.masked(
        ja.stiefel.riemannian_sgd(0.5, momentum=0.5), {"turn": True, "rest": False}
    )
    gradients = {"turn": -cross, "rest": jnp.ones((3,))}
    update = jax.jit(optimizer.update)
    updates, _ = update(gradients, optimizer.init(params), params)
    assert np.array_equal(updates["rest"], gradients["rest"])
    assert orthogonality(start + updates["turn"]) < 10 * F32


@pytest.mark.parametrize(
    ("shape", "injected"), [((8, 8), False), ((12, 4), True)], ids=["square", "tall"]
)
def test_stabilising_bounds_the_drift_of_exact_cayley_steps(shape, injected):
    _, _, start = planted(8, shape)
    gradient = np.random.default_rng(1).standard_normal(shape).astype(np.float32)

    def turning(point, constant):
        """Turn with the point, so that it never settles."""
        return jnp.roll(point, 1, axis=0) + 0.1 * constant

    def run(make, **options):
        optimizer = make(0.1, retraction="cayley", **options)
        _, path = descend(optimizer, gradient, start, steps=2000, gradient=turning)
        return orthogonality(path[-50:])

    make = ja.stiefel.riemannian_sgd
    free = run(make)
    if injected:
        make = optax.inject_hyperparams(make)
    stabilised = run(make, stabilize_every=7)
    assert stabilised < 20 * F32
    assert free > 2 * stabilised


def test_second_moments_are_one_number_a_matrix():
    _, _, start = planted(9, (8, 8), batch=(3,))
    rng = np.random.default_rng(0)
    gradient = rng.standard_normal(start.shape).astype(np.float32)
    adam = ja.stiefel.scale_by_riemannian_adam()
    update, state = jax.jit(adam.update)(gradient, adam.init(start), start)
    assert state.nu.shape == (3, 1, 1)
    tangent = np.asarray(ja.stiefel.project_tangent(start, gradient))
    length = np.linalg.norm(tangent, axis=(-2, -1), keepdims=True)
    # After one step both corrections leave the gradient over its norm; 1 - b2 = 1e-3
    # is rounded to float32, where 0.999 is near 1.
    assert np.abs(update - tangent / length).max() < 500 * F32


def test_momentum_is_carried_to_the_tangent_space_of_the_next_point():
    cross, before, point = planted(9, (8, 8))
    momentum = ja.stiefel.trace_tangent(0.9)
    state = momentum.init(before)
    for at in (before, point):
        update, state = jax.jit(momentum.update)(-cross, state, at)
    inner = np.asarray(point).T @ np.asarray(state.trace)
    assert np.abs(inner + inner.T).max() < 20 * F32 * np.abs(inner).max()
    assert np.array_equal(update, state.trace)


def falling(point, cross):
    """A steep slope."""
    return -40.0 * cross


def turning(point, cross):
    """Never settle: a gradient that turns with the point."""
    return cross @ point - point


@pytest.mark.parametrize(
    ("rate", "momentum", "gradient"),
    [(0.5, None, falling), (0.3, 0.9, turning)],
    ids=["falling", "turning"],
)
def test_landing_stays_in_its_radius_whatever_the_rate(rate, momentum, gradient):
    _, rotation, start = planted(10, (12, 12))
    noise = np.random.default_rng(5).standard_normal((12, 12)).astype(np.float32)
    optimizer = ja.stiefel.landing(rate, radius=0.5, momentum=momentum)
    _, path = descend(optimizer, noise, start, gradient=gradient)
    path = np.asarray(path, np.float64)
    gram = np.swapaxes(path, -1, -2) @ path - np.eye(12)
    # It leaves the manifold, but no further.
    assert 1e-4 < np.linalg.norm(gram, axis=(-2, -1)).max() <= 0.5 + 1e-5
    assert (np.linalg.det(path) * np.linalg.det(rotation) > 0).all()


def test_init_works_inside_jit_on_what_is_known():
    point = jnp.eye(4)
    state = jax.jit(lambda: ja.stiefel.riemannian_sgd(0.1, momentum=0.9).init(point))()
    assert jax.tree.leaves(state)


def test_pogo_keeps_its_component_whatever_the_rate():
    cross, _, start = planted(11, (12, 12))
    noise = np.random.default_rng(3).standard_normal((12, 12)).astype(np.float32)
    optimizer = ja.stiefel.pogo(100.0)
    _, path = descend(
        optimizer, cross, start, steps=200, gradient=lambda point, c: noise @ point - c
    )
    signs = np.sign(np.linalg.det(np.asarray(path, np.float64)))
    # NaN is neither.
    assert (signs == signs[0]).all()


def test_cayley_steps_are_no_longer_than_their_bound():
    piece = ja.stiefel.limit_cayley_step(0.5)
    short = 0.01 * np.eye(4)
    change = jnp.asarray(np.stack([3.0 * np.ones((4, 4)), short]), jnp.float32)
    update, _ = piece.update(change, piece.init(change), change)
    lengths = np.linalg.norm(update, axis=(-2, -1))
    assert lengths == pytest.approx([0.5, 0.02])
    assert np.array_equal(update[1], change[1])


def test_half_precision_steps_stay_as_near_as_it_rounds():
    cross, _, start = planted(12, (8, 8))
    optimizer = ja.stiefel.riemannian_sgd(0.5, momentum=0.5)
    half = cross.astype(jnp.bfloat16), start.astype(jnp.bfloat16)
    found, _ = descend(optimizer, *half, steps=50)
    assert found.dtype == jnp.bfloat16
    assert orthogonality(found) < 0.05
    best = np.linalg.svd(np.asarray(cross), compute_uv=False).sum()
    assert np.sum(np.asarray(found, np.float32) * cross) > 0.95 * best


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"bias": np.zeros(3, np.float32)}, "bias.*multi_transform"),
        ({"mixer": np.ones((3, 3), np.float32)}, r"mixer.*\n?.*polar_factor"),
        ({"mixer": np.eye(3, dtype=int)}, "mixer.*multi_transform"),
    ],
    ids=["vector", "not orthonormal", "integers"],
)
def test_parameters_that_are_no_points_are_refused_by_name(params, match):
    for make in (ja.stiefel.riemannian_sgd, ja.stiefel.landing, ja.stiefel.pogo):
        with pytest.raises(ValueError, match=match):
            make(0.1).init(params)


def test_options_that_mean_nothing_are_refused(no_shape_hook):
    # What would be ignored, or fail at the first update only.
    sgd, pogo = ja.stiefel.riemannian_sgd, ja.stiefel.pogo
    for make, wrong, also in (
        (sgd, {"retraction": "svd"}, "method"),
        (sgd, {"metric": "flat"}, "metric"),
        (sgd, {"metric": "canonical", "momentum": 0.9}, "metric"),
        (sgd, {"nesterov": True}, "nesterov"),
        (pogo, {"nesterov": True}, "nesterov"),
        (pogo, {"precision": "half"}, "precision"),
        (pogo, {"step_transform": 0.5}, "step_transform"),
        (ja.stiefel.cayley_sgd, {"stabilize_every": 0}, "stabilize_every"),
        (ja.stiefel.cayley_adam, {"bound": 2.0}, "bound"),
        (ja.stiefel.landing, {"attraction": 5.0}, "attraction"),
        (ja.stiefel.landing, {"radius": 1.0}, "radius"),
    ):
        with pytest.raises(ValueError, match=f"{also}="):
            make(0.1, **wrong)
    with pytest.raises(ValueError, match="norm_of="):
        ja.stiefel.scale_by_riemannian_adam(norm_of="both")
