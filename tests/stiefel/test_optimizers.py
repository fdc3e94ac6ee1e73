# SPDX-License-Identifier: Apache-2.0
"""Every optimiser x what optax promises and the manifold demands."""

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

every_case = pytest.mark.parametrize("case", OPTIMIZERS, ids=str)
# One case an optimiser; its variants share all that is asked below but the step.
cases = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=str(case))
        if case.name in ALIASES
        else pytest.param(case, id=str(case), marks=pytest.mark.slow)
        for case in OPTIMIZERS
    ],
)


def orthogonality(points):
    points = np.asarray(points, np.float64)
    if points.shape[-2] < points.shape[-1]:
        points = np.swapaxes(points, -1, -2)
    gram = np.swapaxes(points, -1, -2) @ points
    return np.abs(gram - np.eye(gram.shape[-1])).max()


@every_case
@pytest.mark.parametrize("sign", [1, -1])
def test_it_reaches_the_planted_rotation_of_its_component(case, sign):
    cross, rotation, start = planted(0, (12, 12), sign=sign)
    found, path = descend(case.build(), cross, start)
    found = ja.polar_factor(found).factor
    assert np.abs(found - rotation).max() < OPTIMIZED
    assert orthogonality(path) < case.near
    assert orthogonality(path[-1]) < 30 * eps(np.float32)
    # Neither a step lost the point, nor did any cross to the other component.
    signs = np.sign(np.linalg.det(np.asarray(path, np.float64)))
    assert (signs == sign).all()


@cases
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_it_solves_tall_and_wide_points(case, shape):
    cross, _, start = planted(1, shape)
    u, s, vt = np.linalg.svd(np.asarray(cross, np.float64), full_matrices=False)
    found, _ = descend(case.build(), cross, start)
    found = ja.polar_factor(found).factor
    best, reached = s.sum(), float(jnp.sum(found * cross))
    assert best - reached < OPTIMIZED * best
    assert np.abs(found - u @ vt).max() < 10 * OPTIMIZED


@cases
def test_a_batch_is_a_loop(case):
    cross, _, start = planted(2, (8, 8), batch=(3,))
    optimizer = case.build()
    many, _ = descend(optimizer, cross, start, steps=20)
    for k in range(3):
        one, _ = descend(optimizer, cross[k], start[k], steps=20)
        assert np.abs(np.asarray(many[k]) - one).max() < 50 * eps(np.float32)


@cases
def test_vmap_is_a_loop(case):
    cross, _, start = planted(2, (8, 8), batch=(3,))
    optimizer = case.build()

    def run(cross, start):
        return descend(optimizer, cross, start, steps=20)[0]

    many = jax.vmap(run)(cross, start)
    for k in range(3):
        one = run(cross[k], start[k])
        assert np.abs(many[k] - one).max() < 50 * eps(np.float32)


@cases
def test_it_needs_params(case):
    cross, _, start = planted(3, (8, 8))
    optimizer = case.build()
    with pytest.raises(ValueError, match="pass the current points as params"):
        optimizer.update(cross, optimizer.init(start))


@cases
def test_it_accepts_extra_arguments(case):
    cross, _, start = planted(3, (8, 8))
    optimizer = case.build()
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)
    state = optimizer.init(start)
    plain, _ = optimizer.update(-cross, state, start)
    extra, _ = optimizer.update(-cross, state, start, value=jnp.ones(()), loss=2.0)
    assert np.array_equal(plain, extra)


@cases
def test_a_second_call_does_not_retrace(case):
    cross, _, start = planted(3, (8, 8))
    optimizer = case.build()
    traces = []

    @jax.jit
    def step(point, state):
        traces.append(1)
        updates, state = optimizer.update(-cross, state, point)
        return optax.apply_updates(point, updates), state

    point, state = start, optimizer.init(start)
    for _ in range(3):
        point, state = step(point, state)
    assert len(traces) == 1


@cases
@pytest.mark.parametrize("spec", [("data",), (None, "data")], ids=["batch", "rows"])
def test_state_keeps_its_sharding(case, spec):
    mesh = ja.data_mesh()
    where = NamedSharding(mesh, PartitionSpec(*spec))
    cross, _, start = planted(4, (8, 8), batch=(8,))
    cross, start = jax.device_put((cross, start), where)
    optimizer = case.build()
    state = optimizer.init(start)

    @jax.jit
    def step(point, state):
        updates, state = optimizer.update(-cross, state, point)
        return optax.apply_updates(point, updates), state

    def layout(tree):
        return [
            (leaf.shape, leaf.sharding.is_equivalent_to(where, leaf.ndim))
            for leaf in jax.tree.leaves(tree)
            if leaf.shape == start.shape
        ]

    point, after = step(start, state)
    assert layout(point) == [(start.shape, True)]
    assert layout(after) == layout(state)
    assert all(same for _, same in layout(state))
    again, last = step(point, after)
    assert layout(last) == layout(state)
    # Numbers a matrix lie where their matrices lie.
    if spec == ("data",):
        for leaf in jax.tree.leaves(last):
            if leaf.shape == (8, 1, 1):
                assert leaf.sharding.is_equivalent_to(where, 3)
    alone = jax.device_get(start)
    single = optimizer.init(jnp.asarray(alone))
    for _ in range(2):
        updates, single = optimizer.update(-jax.device_get(cross), single, alone)
        alone = optax.apply_updates(alone, updates)
    assert np.abs(np.asarray(again) - alone).max() < 50 * eps(np.float32)


@cases
def test_a_split_batch_needs_no_collective(case):
    where = NamedSharding(ja.data_mesh(), PartitionSpec("data"))
    cross, _, start = planted(4, (8, 8), batch=(8,))
    cross, start = jax.device_put((cross, start), where)
    optimizer = case.build()

    def step(point, state, cross):
        updates, state = optimizer.update(-cross, state, point)
        return optax.apply_updates(point, updates), state

    text = jax.jit(step).lower(start, optimizer.init(start), cross).compile().as_text()
    assert_no_collective(text)


@cases
def test_multi_steps_averages_gradients(case):
    cross, _, start = planted(5, (8, 8))
    optimizer = case.build()
    noise = jax.random.normal(jax.random.key(0), (8, 8))
    every = optax.MultiSteps(optimizer, 2)
    state, point = every.init(start), start
    for gradient in (-cross + noise, -cross - noise):
        before = point
        updates, state = jax.jit(every.update)(gradient, state, point)
        point = optax.apply_updates(point, updates)
    assert np.array_equal(before, start)
    updates, _ = optimizer.update(-cross, optimizer.init(start), start)
    assert np.abs(point - optax.apply_updates(start, updates)).max() < 50 * eps(
        np.float32
    )


@cases
def test_gradients_and_steps_can_be_transformed(case):
    cross, _, start = planted(6, (8, 8))
    # Entry by entry: off the tangent space, where the optimiser brings it back.
    inner = case.make(lambda count: 0.1, step_transform=optax.clip(0.02))
    chained = optax.chain(optax.clip_by_global_norm(0.5), inner)
    found, path = descend(chained, cross, start, steps=10)
    assert orthogonality(path) < case.near
    assert float(jnp.sum(found * cross)) > float(jnp.sum(start * cross))
    # Clipped it was: no step is longer than all entries at the bound.
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=(-2, -1))
    assert 0 < lengths.max() < 8 * 0.02 * 1.1


@pytest.mark.parametrize("factory", ALIASES)
def test_hyperparameters_can_be_injected(factory):
    cross, _, start = planted(6, (8, 8))
    make = getattr(ja.stiefel, factory)
    schedule = optax.linear_schedule(0.2, 0.0, 10)
    injected = optax.inject_hyperparams(make)(learning_rate=schedule)
    found, path = descend(injected, cross, start, steps=12)
    expected, _ = descend(make(schedule), cross, start, steps=12)
    assert np.abs(found - expected).max() < 50 * eps(np.float32)
    # The rate is 0 from the tenth step on: the point rests, but for drift.
    assert np.abs(path[11] - path[10]).max() < 1e-3
    state = injected.init(start)
    assert float(state.hyperparams["learning_rate"]) == pytest.approx(0.2)


def test_stabilize_every_can_be_injected():
    cross, _, start = planted(6, (8, 8))
    make = optax.inject_hyperparams(ja.stiefel.riemannian_sgd)
    injected = make(learning_rate=0.5, retraction="cayley", stabilize_every=3)
    found, _ = descend(injected, cross, start, steps=30)
    assert orthogonality(found) < 10 * eps(np.float32)


def test_masked_leaves_are_left_alone():
    cross, _, start = planted(7, (8, 8))
    params = {"turn": start, "rest": jnp.ones((3,))}
    optimizer = optax.masked(
        ja.stiefel.riemannian_sgd(0.5, momentum=0.5), {"turn": True, "rest": False}
    )
    gradients = {"turn": -cross, "rest": jnp.ones((3,))}
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    assert np.array_equal(updates["rest"], gradients["rest"])
    assert orthogonality(start + updates["turn"]) < 10 * eps(np.float32)


@pytest.mark.parametrize("shape", [(8, 8), (12, 4)], ids=str)
@pytest.mark.parametrize("every", [1, 7])
def test_stabilising_bounds_the_drift_of_exact_cayley_steps(shape, every):
    _, _, start = planted(8, shape)
    gradient = jax.random.normal(jax.random.key(1), shape)

    def turning(point, constant):
        """Turn with the point, so that it never settles."""
        return jnp.roll(point, 1, axis=0) + 0.1 * constant

    def run(**options):
        optimizer = ja.stiefel.riemannian_sgd(0.1, retraction="cayley", **options)
        _, path = descend(optimizer, gradient, start, steps=2000, gradient=turning)
        return orthogonality(path[-50:])

    stabilised, free = run(stabilize_every=every), run()
    assert stabilised < 20 * eps(np.float32)
    assert free > 2 * stabilised


def test_second_moments_are_one_number_a_matrix():
    _, _, start = planted(9, (8, 8), batch=(3,))
    gradient = jax.random.normal(jax.random.key(0), start.shape)
    adam = ja.stiefel.scale_by_riemannian_adam()
    update, state = adam.update(gradient, adam.init(start), start)
    assert state.nu.shape == (3, 1, 1)
    tangent = np.asarray(ja.stiefel.project_tangent(start, gradient))
    length = np.linalg.norm(tangent, axis=(-2, -1), keepdims=True)
    # After one step both corrections leave the gradient over its norm; 1 - b2 = 1e-3
    # is rounded to float32, where 0.999 is near 1.
    assert np.abs(update - tangent / length).max() < 500 * eps(np.float32)


def test_momentum_stays_tangent():
    _, _, start = planted(9, (8, 8))
    cross = jax.random.normal(jax.random.key(2), (8, 8))
    optimizer = ja.stiefel.riemannian_sgd(0.3, momentum=0.9)
    point, state = start, optimizer.init(start)
    for _ in range(5):
        at = point
        updates, state = optimizer.update(-cross, state, point)
        point = optax.apply_updates(point, updates)
    (trace,) = (part.trace for part in state if hasattr(part, "trace"))
    inner = np.asarray(at.T @ trace)
    assert np.abs(inner + inner.T).max() < 20 * eps(np.float32) * np.abs(inner).max()


def test_landing_stays_in_its_radius_whatever_the_rate():
    cross, rotation, start = planted(10, (12, 12))
    optimizer = ja.stiefel.landing(0.5, radius=0.5)
    _, path = descend(optimizer, 40.0 * cross, start, steps=200)
    path = np.asarray(path)
    gram = np.swapaxes(path, -1, -2) @ path - np.eye(12)
    assert np.linalg.norm(gram, axis=(-2, -1)).max() <= 0.5 + 1e-5
    assert (np.linalg.det(np.asarray(path)) * np.linalg.det(rotation) > 0).all()


def test_landing_with_momentum_bears_noise():
    cross, _, start = planted(10, (12, 12))
    noise = jax.random.normal(jax.random.key(5), (12, 12))
    optimizer = ja.stiefel.landing(0.3, momentum=0.9)
    _, path = descend(
        optimizer, noise, start, steps=1000, gradient=lambda point, c: c @ point - point
    )
    path = np.asarray(path)
    gram = np.swapaxes(path, -1, -2) @ path - np.eye(12)
    assert np.linalg.norm(gram, axis=(-2, -1)).max() <= 0.5 + 1e-5


def test_init_works_inside_jit_on_what_is_known():
    point = jnp.eye(4)
    state = jax.jit(lambda: ja.stiefel.riemannian_sgd(0.1, momentum=0.9).init(point))()
    assert jax.tree.leaves(state)


def test_pogo_keeps_its_component_whatever_the_rate():
    cross, _, start = planted(11, (12, 12))
    noise = jax.random.normal(jax.random.key(3), (12, 12))
    optimizer = ja.stiefel.pogo(100.0)
    _, path = descend(
        optimizer, cross, start, steps=200, gradient=lambda point, c: noise @ point - c
    )
    assert np.isfinite(path).all()
    signs = np.sign(np.linalg.det(np.asarray(path, np.float64)))
    assert (signs == signs[0]).all()


def test_cayley_steps_are_no_longer_than_their_bound():
    change = 3.0 * jnp.ones((2, 4, 4))
    piece = ja.stiefel.limit_cayley_step(0.5)
    update, _ = piece.update(change, piece.init(change), change)
    assert np.linalg.norm(update, axis=(-2, -1)) == pytest.approx([0.5, 0.5])
    short = 0.01 * jnp.eye(4)
    assert np.array_equal(piece.update(short, piece.init(short))[0], short)


def test_half_precision_steps_stay_as_near_as_it_rounds():
    cross, _, start = planted(12, (8, 8))
    optimizer = ja.stiefel.riemannian_sgd(0.5, momentum=0.5)
    found, _ = descend(
        optimizer, cross.astype(jnp.bfloat16), start.astype(jnp.bfloat16), steps=50
    )
    assert found.dtype == jnp.bfloat16
    assert orthogonality(found) < 0.05
    assert float(jnp.sum(found * cross)) > 0.95 * float(
        jnp.sum(jnp.linalg.svd(cross)[1])
    )


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"bias": np.zeros(3, np.float32)}, "bias.*multi_transform"),
        ({"mixer": np.ones((3, 3), np.float32)}, r"mixer.*\n?.*polar_factor"),
        ({"mixer": np.eye(3, dtype=int)}, "int.*multi_transform"),
    ],
    ids=["vector", "not orthonormal", "integers"],
)
@pytest.mark.parametrize(
    "make", [ja.stiefel.riemannian_sgd, ja.stiefel.landing, ja.stiefel.pogo]
)
def test_parameters_that_are_no_points_are_refused_by_name(make, params, match):
    with pytest.raises(ValueError, match=match):
        make(0.1).init(params)


def test_unknown_options_are_refused(no_shape_hook):
    with pytest.raises(ValueError, match="leave it out for 'polar'"):
        ja.stiefel.riemannian_sgd(0.1, retraction="svd")
    with pytest.raises(ValueError, match="leave it out for 'full'"):
        ja.stiefel.pogo(0.1, precision="half")
    with pytest.raises(ValueError, match="leave `metric` out"):
        ja.stiefel.riemannian_sgd(0.1, momentum=0.9, metric="canonical")
    # What would be ignored, or fail at the first update only.
    for make, remedy in (
        (lambda: ja.stiefel.riemannian_sgd(0.1, metric="flat"), "leave it out for"),
        (lambda: ja.stiefel.riemannian_sgd(0.1, nesterov=True), "pass momentum"),
        (lambda: ja.stiefel.pogo(0.1, nesterov=True), "pass momentum"),
        (lambda: ja.stiefel.cayley_sgd(0.1, stabilize_every=0), "None is never"),
        (lambda: ja.stiefel.cayley_adam(0.1, bound=2.0), "leave it out for 1"),
        (lambda: ja.stiefel.landing(0.1, attraction=5.0), "leave it out for 1"),
        (lambda: ja.stiefel.landing(0.1, radius=1.0), "leave it out for 0.5"),
        (
            lambda: ja.stiefel.scale_by_riemannian_adam(norm_of="both"),
            "leave it out for 'tangent'",
        ),
    ):
        with pytest.raises(ValueError, match=remedy):
            make()
