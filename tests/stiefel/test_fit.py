# SPDX-License-Identifier: Apache-2.0
"""Fits by descent: against closed forms, in both components, in batches."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxalign as ja
from jaxalign.stiefel import stream
from tests.stiefel.optimizer_cases import planted
from tests.tolerances import OPTIMIZED, eps

st = ja.stiefel
STEADY = st.riemannian_sgd(1.0, momentum=0.4)


def linear(cross):
    """Make -<Q, C> that carries its matrix as data."""
    return jax.tree_util.Partial(_linear, cross)


def _linear(cross, point):
    return -jnp.sum(cross * point, axis=(-2, -1))


def moments(seed, n, d_source, d_target=None, *, grams=False, **options):
    """Draw planted pairs of one modality and sum them up."""
    pairs = ja.planted_pairs(
        jax.random.key(seed), n, d_source, d_target, modalities=("image",), **options
    )
    source, target = pairs.pairs["image"]
    empty = ja.init_moments(d_source, d_target or d_source, grams=grams)
    return ja.update_moments(empty, source, target), pairs


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("start", [1, -1])
def test_either_component_is_found_from_either_start(sign, start):
    cross, rotation, init = planted(0, (12, 12), sign=sign)
    if start != sign:
        init = st.reflect(init)
    found = st.fit(linear(cross), init, STEADY, steps=300)
    assert np.abs(found.point - rotation).max() < OPTIMIZED
    assert int(found.determinant) == sign
    assert bool(found.reflected) == (start != sign)
    # The best of the other component lies twice the least singular value above.
    least = np.linalg.svd(np.asarray(cross))[1][-1]
    gap = float(found.other_value - found.value)
    assert gap == pytest.approx(2 * least, rel=1e-3)
    assert "given point and from its reflection" in found.describe()
    assert f"{sign:+d}" in found.describe()


def test_the_wrong_component_alone_ends_at_distance_two():
    cross, rotation, init = planted(1, (12, 12), sign=-1)
    found = st.fit(
        linear(cross), st.reflect(init), STEADY, steps=600, components="given"
    )
    # Converged, and wrong by one reflection: the trap.
    assert int(found.status) == ja.Status.OK
    assert np.linalg.norm(found.point - rotation) == pytest.approx(2.0, abs=1e-3)
    assert int(found.determinant) == 1
    assert np.isinf(found.other_value)


@pytest.mark.parametrize("widths", [(10, 10), (8, 14)], ids=str)
def test_procrustes_by_descent_is_procrustes_in_closed_form(widths):
    held, _ = moments(3, 400, *widths, noise=0.3)
    solution = ja.solve_procrustes(held)
    objective = st.procrustes_objective(held)
    # Procrustes is the oracle, so the start must not be its answer.
    init = st.random_point(jax.random.key(0), (widths[1], widths[0]))
    rate = 1.0 / float(2 * solution.singular_values[0] / held.count)
    found = st.fit(
        objective, init, st.riemannian_sgd(rate, momentum=0.4), steps=600
    ).check()
    assert np.abs(found.point - solution.rotation).max() < OPTIMIZED
    best = float(solution.residual / held.count)
    assert float(found.value) == pytest.approx(best, rel=1e-4)


def test_least_squares_to_fewer_dimensions_beats_the_closed_start():
    held, _ = moments(4, 600, 12, 4, grams=True, noise=0.5, decay=1.0)
    objective = st.least_squares_objective(held)
    trace = ja.solve_procrustes(held, objective="trace").rotation
    oracle = ja.solve_procrustes(held, objective="least_squares")
    rate = 0.4 / float(jnp.linalg.eigvalsh(held.source_gram)[-1] / held.count)
    optimizer = st.riemannian_sgd(rate, momentum=0.8)
    found = st.fit(objective, "closed_form", optimizer, steps=3000, tolerance=1e-5)
    assert found.start == "the closed form"
    assert float(found.value) <= float(objective(trace))
    best = float(objective(oracle.rotation))
    assert float(found.value) <= best * (1 + 1e-3)


def test_a_batch_of_problems_is_a_loop_and_each_stops_by_itself():
    cross, rotation, init = planted(5, (8, 8), batch=(3,))
    # The second begins at its optimum.
    init = init.at[1].set(rotation[1])
    found = st.fit(linear(cross), init, STEADY, steps=300, components="given")
    assert np.abs(found.point - rotation).max() < OPTIMIZED
    assert found.value.shape == found.steps.shape == found.status.shape == (3,)
    assert int(found.steps[1]) == 0
    assert int(found.steps[0]) > 5
    for k in range(3):
        one = st.fit(linear(cross[k]), init[k], STEADY, steps=300, components="given")
        assert abs(int(one.steps) - int(found.steps[k])) <= 1
        assert np.abs(one.point - found.point[k]).max() < OPTIMIZED


def test_both_components_of_a_batch_are_chosen_one_by_one():
    signs = [1, -1, 1]
    parts = [planted(k, (6, 6), sign=sign) for k, sign in enumerate(signs)]
    cross, rotation, init = (jnp.stack(part) for part in zip(*parts, strict=True))
    init = init.at[0].set(st.reflect(init[0]))
    found = st.fit(linear(cross), init, STEADY, steps=300)
    assert np.abs(found.point - rotation).max() < OPTIMIZED
    assert found.reflected.tolist() == [True, False, False]
    assert found.determinant.tolist() == signs
    assert "1 of 3 problems" in found.describe()


def test_it_stops_when_the_gradient_is_small_and_says_when_it_did_not():
    cross, _, init = planted(6, (8, 8))
    objective = linear(cross)
    short = st.fit(objective, init, STEADY, steps=3, components="given")
    assert int(short.status) == ja.Status.NOT_CONVERGED
    assert int(short.steps) == 3
    with pytest.raises(ja.SolveError, match="stopped before"):
        short.check()
    loose = st.fit(objective, init, STEADY, tolerance=1e-2, components="given")
    fine = st.fit(objective, init, STEADY, tolerance=1e-5, components="given")
    assert 3 < int(loose.steps) < int(fine.steps) < 300
    assert float(fine.gradient_norm) <= 2e-5


def test_history_falls_and_repeats_the_end():
    cross, _, init = planted(7, (8, 8))
    found = st.fit(
        linear(cross), init, STEADY, steps=200, components="given", record_every=5
    )
    history = jax.device_get(found.history)
    assert history.step.shape == history.value.shape == (41,)
    assert history.step[0] == 0
    assert history.step[-1] == int(found.steps) < 200
    start = float(linear(cross)(init))
    assert history.value[0] == pytest.approx(start, rel=1e-6)
    assert history.value[-1] == pytest.approx(float(found.value), rel=1e-5)
    assert (np.diff(history.value) <= 1e-5).all()
    ended = history.step == history.step[-1]
    assert len(np.unique(history.value[ended])) == 1
    assert history.orthogonality_error.max() < 100 * eps(np.float32)


def test_data_that_is_not_finite_is_said():
    cross, _, init = planted(8, (6, 6), batch=(2,))
    cross = cross.at[1, 0, 0].set(jnp.nan)
    found = st.fit(linear(cross), init, STEADY, steps=100)
    assert found.status.tolist() == [ja.Status.OK, ja.Status.NON_FINITE]


def test_landing_ends_on_the_manifold():
    cross, rotation, init = planted(9, (8, 8))
    found = st.fit(
        linear(cross),
        init,
        st.landing(0.3),
        steps=30,
        tolerance=0.0,
        components="given",
    )
    along = found.history.orthogonality_error
    assert along.max() > 1e3 * eps(np.float32)
    assert float(found.orthogonality_error) < 20 * eps(np.float32)


def test_a_second_fit_of_the_same_shapes_does_not_retrace():
    traces, seen = [], []

    def value(cross, point):
        traces.append(1)
        return _linear(cross, point)

    for seed in (10, 11):
        cross, _, init = planted(seed, (8, 8))
        objective = jax.tree_util.Partial(value, cross)
        st.fit(objective, init, STEADY, steps=20, components="given")
        seen.append(len(traces))
    assert seen[0] == seen[1] > 0


def test_it_runs_under_jit_and_vmap():
    cross, rotation, init = planted(12, (6, 6), batch=(2,))

    @jax.jit
    @jax.vmap
    def run(cross, init):
        return st.fit(linear(cross), init, STEADY, steps=200).point

    assert np.abs(run(cross, init) - rotation).max() < OPTIMIZED

    @jax.jit
    def steps(tolerance):
        options = {"tolerance": tolerance, "components": "given"}
        return st.fit(linear(cross[0]), init[0], STEADY, steps=200, **options).steps

    assert 0 < int(steps(1e-2)) < int(steps(1e-4)) < 200


def test_a_tree_of_points_is_one_problem():
    cross, rotation, init = planted(13, (6, 6))
    wide, turned, begun = planted(14, (4, 8))

    def objective(point):
        return _linear(cross, point["square"]) + _linear(wide, point["wide"])

    found = st.fit(objective, {"square": init, "wide": begun}, STEADY, steps=400)
    assert np.abs(found.point["square"] - rotation).max() < OPTIMIZED
    assert np.abs(found.point["wide"] - turned).max() < 10 * OPTIMIZED
    assert int(found.determinant) == 0
    assert found.value.shape == ()


def test_several_models_go_to_one_frame():
    key = jax.random.key(15)
    latent = jax.random.normal(key, (300, 6))
    turns = [np.eye(6)] + [
        np.asarray(st.random_point(jax.random.fold_in(key, k), (6, 6))) for k in (1, 2)
    ]
    rows = [
        np.asarray(latent) @ turn.T
        + 0.05 * np.asarray(jax.random.normal(jax.random.fold_in(key, 9 + k), (300, 6)))
        for k, turn in enumerate(turns)
    ]
    pairs = [(0, 1), (1, 2), (0, 2)]
    empty = ja.init_moments(6, 6)
    held = [ja.update_moments(empty, rows[a], rows[b]) for a, b in pairs]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *held)
    objective = st.consensus_objective(stacked, pairs)
    best = objective.closed_form_start()
    tree = [jnp.asarray(one) for one in best]
    # Away from the optimum, within each component.
    moved = [
        st.retract(one, 0.3 * st.random_tangent(jax.random.fold_in(key, 20 + k), one))
        for k, one in enumerate(tree)
    ]
    found = st.fit(objective, moved, st.riemannian_sgd(0.2, momentum=0.5), steps=500)
    assert float(objective(moved)) > 10 * float(objective(tree))
    assert float(found.value) == pytest.approx(float(objective(tree)), rel=1e-3)
    # As one array, all maps are reflected together: no one determinant to speak of.
    both = st.fit(objective, jnp.stack(moved), STEADY, steps=2)
    assert "Determinant" not in both.describe()
    assert "start's: value" in both.describe()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"steps": 0}, "at least 1"),
        ({"record_every": 2.5}, "at least 1"),
        ({"tolerance": -1.0}, "0 or more"),
        ({"components": "all"}, "'both' or 'given'"),
        ({"init": "closed_form"}, "closed_form_start"),
        ({"init": np.ones((4, 4), np.float32)}, "polar_factor"),
        (
            {"init": np.eye(4, 2, dtype=np.float32), "components": "both"},
            "one component",
        ),
        ({"objective": 3.0}, "function of a point"),
        ({"objective": lambda point: point[0]}, "one value for each problem"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes_are_refused(change, match, no_shape_hook):
    options = {
        "objective": lambda point: -jnp.trace(point[:2, :2]),
        "init": jnp.eye(4),
        "optimizer": STEADY,
    } | change
    with pytest.raises(ValueError, match=match):
        st.fit(**options)


def test_float64_reaches_its_own_rounding(x64):
    cross, rotation, init = planted(16, (8, 8), dtype=np.float64)
    found = st.fit(
        linear(cross), init, STEADY, steps=600, tolerance=1e-13, components="given"
    )
    assert found.point.dtype == jnp.float64
    assert np.abs(found.point - rotation).max() < 1e-11
    assert float(found.orthogonality_error) < 20 * eps(np.float64)


def test_any_chain_that_ends_in_a_retraction_is_an_optimizer():
    cross, rotation, init = planted(17, (8, 8))
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        st.to_riemannian_gradient(),
        optax.scale_by_learning_rate(optax.cosine_decay_schedule(1.0, 400)),
        st.retract_updates("qr"),
    )
    found = st.fit(linear(cross), init, optimizer, steps=400, tolerance=0.0)
    assert np.abs(found.point - rotation).max() < OPTIMIZED


@functools.cache
def _stream():
    held, pairs = moments(18, 512, 8, noise=0.2)
    source, target = pairs.pairs["image"]
    source, target = np.asarray(source), np.asarray(target)
    return held, source - source.mean(0), target - target.mean(0)


def squares(point, batch):
    source, target = batch
    return jnp.mean(jnp.sum(jnp.square(source @ point.T - target), axis=-1))


def batches(epochs, size=64):
    _, source, target = _stream()
    for _ in range(epochs):
        for k in range(0, 512, size):
            yield source[k : k + size], target[k : k + size]


def test_a_stream_comes_near_the_closed_form():
    held, _, _ = _stream()
    best = ja.solve_procrustes(held).rotation
    sign = int(st.component(best))
    init = st.random_point(jax.random.key(1), (8, 8), determinant=sign)
    rate = optax.cosine_decay_schedule(2.0, 30 * 8)
    reports = []
    found = st.fit_stream(
        squares,
        init,
        st.riemannian_sgd(rate, momentum=0.5),
        batches(30),
        record_every=16,
        report=lambda step, value: reports.append((step, value)),
    ).check()
    assert int(found.steps) == 240
    assert int(found.determinant) == sign
    assert np.abs(found.point - best).max() < 0.02
    assert found.recorded_steps.tolist() == [step for step, _ in reports]
    assert float(found.recorded_values[-1]) < float(found.recorded_values[0])
    assert float(found.orthogonality_error) < 20 * eps(np.float32)


def test_a_stream_in_two_parts_is_one():
    init = jnp.eye(8)
    optimizer = st.riemannian_adam(0.1)
    whole = st.fit_stream(squares, init, optimizer, batches(2))
    first = st.fit_stream(squares, init, optimizer, batches(1))
    second = st.fit_stream(
        squares, first.point, optimizer, batches(1), state=first.state
    )
    assert np.abs(whole.point - second.point).max() < 50 * eps(np.float32)
    # The caller's own start and state are not written over.
    assert np.array_equal(init, jnp.eye(8))
    st.fit_stream(squares, first.point, optimizer, batches(1), state=first.state)


def test_rows_split_over_devices_are_one_all_reduce():
    where = ja.row_sharding(ja.data_mesh())
    parts = [jax.device_put(batch, where) for batch in batches(1)]
    split = st.fit_stream(squares, jnp.eye(8), STEADY, parts)
    alone = st.fit_stream(squares, jnp.eye(8), STEADY, batches(1))
    assert np.abs(split.point - np.asarray(alone.point)).max() < 50 * eps(np.float32)
    arguments = jnp.eye(8), STEADY.init(jnp.eye(8)), parts[0]
    step = stream._step.lower(*arguments, loss=squares, optimizer=STEADY)
    text = step.compile().as_text()
    # The loss, a number, is summed as well.
    sums = re.findall(r"= (.*?) all-reduce(?:-start)?\(", text)
    assert "".join(sums).count("f32[8,8]") == 1
    assert not re.search(r" (all-gather|all-to-all|collective-permute)", text)


def test_streams_refuse_what_they_cannot_use():
    with pytest.raises(ValueError, match="at least one batch"):
        st.fit_stream(squares, jnp.eye(8), STEADY, iter([]))
    with pytest.raises(ValueError, match="leave it out for 10"):
        st.fit_stream(squares, jnp.eye(8), STEADY, batches(1), record_every=0)
    with pytest.raises(ValueError, match="polar_factor"):
        st.fit_stream(squares, 2 * jnp.eye(8), STEADY, batches(1))
    with pytest.raises(ValueError, match="return a mean over its rows"):
        st.fit_stream(
            lambda point, batch: squares(point, batch)[None],
            jnp.eye(8),
            STEADY,
            batches(1),
        )
    bad = [(jnp.full((4, 8), jnp.nan), jnp.ones((4, 8)))]
    with pytest.raises(ja.SolveError, match="not finite"):
        st.fit_stream(squares, jnp.eye(8), STEADY, bad).check()
