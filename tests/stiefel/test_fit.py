# SPDX-License-Identifier: Apache-2.0
"""Fits by descent: against closed forms, in both components, in batches."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxalign as ja
from tests.cases import orthonormal, rows_pair
from tests.stiefel.optimizer_cases import linear, planted
from tests.tolerances import OPTIMIZED, eps

st = ja.stiefel
F32 = eps(np.float32)
STEADY = st.riemannian_sgd(1.0, momentum=0.4)
# The name of the module is that of its function.
_descend = importlib.import_module("jaxalign.stiefel.fit")._descend


def fit(cross, init, optimizer=STEADY, **options):
    """Fit -<Q, C>: with these options, one program for every problem of a shape."""
    options = {"steps": 300, "record_every": 5} | options
    return st.fit(linear(cross), init, optimizer, **options)


def moments(seed, d_target, d_source, **options):
    """Sum up planted pairs with a mean."""
    rng = np.random.default_rng(seed)
    source, target = rows_pair(rng, 400, d_source, d_target, mean=1.0, **options)
    empty = ja.moments.init_moments(d_source, d_target, grams=True)
    return ja.moments.update_moments(empty, source, target)


def nearest(matrix):
    """Polar factor and singular values, in float64."""
    u, s, vt = np.linalg.svd(np.asarray(matrix, np.float64), full_matrices=False)
    return u @ vt, s


def test_either_component_is_found_from_either_start_by_one_program():
    programs = set()
    for seed, (sign, start) in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1))):
        cross, rotation, init = planted(seed, (8, 8), sign=sign)
        if start != sign:
            init = init.at[:, 0].multiply(-1)
        found = fit(cross, init)
        programs.add(_descend._cache_size())
        assert np.abs(found.point - rotation).max() < OPTIMIZED
        assert int(found.determinant) == sign
        assert bool(found.reflected) == (start != sign)
        # The best of the other component lies twice the least singular value above.
        gap = float(found.other_value - found.value)
        assert gap == pytest.approx(2 * nearest(cross)[1][-1], rel=1e-3)
        assert "given point and from its reflection" in found.describe()
        assert f"{sign:+d}" in found.describe()
    assert len(programs) == 1


def test_the_wrong_component_alone_ends_at_distance_two():
    cross, rotation, init = planted(1, (8, 8), sign=-1)
    found = fit(cross, init.at[:, 0].multiply(-1), components="given")
    # Converged, and wrong by one reflection: the trap.
    assert int(found.status) == ja.Status.OK
    assert np.linalg.norm(found.point - rotation) == pytest.approx(2.0, abs=1e-3)
    assert int(found.determinant) == 1
    assert np.isinf(found.other_value)


def test_procrustes_by_descent_is_procrustes_in_closed_form():
    held = moments(3, 14, 8)
    factor, values = nearest(held.cross_covariance)
    # Procrustes is the oracle, so the start must not be its answer.
    init = jnp.asarray(orthonormal(np.random.default_rng(0), 14, 8), jnp.float32)
    rate = float(held.count) / (2 * values[0])
    optimizer = st.riemannian_sgd(rate, momentum=0.4)
    found = st.fit(st.procrustes_objective(held), init, optimizer, steps=600).check()
    assert np.abs(found.point - factor).max() < OPTIMIZED
    energies = float(held.source_energy + held.target_energy)
    best = (energies - 2 * values.sum()) / float(held.count)
    assert float(found.value) == pytest.approx(best, rel=1e-4)


def test_least_squares_to_fewer_dimensions_beats_the_closed_start():
    held = moments(4, 3, 8, noise=0.5)
    objective = st.least_squares_objective(held)
    oracle = ja.solve.solve_procrustes(held, objective="least_squares")
    steepest = np.linalg.norm(np.asarray(held.source_gram), 2)
    rate = 0.4 * float(held.count / steepest)
    optimizer = st.riemannian_sgd(rate, momentum=0.8)
    found = st.fit(objective, "closed_form", optimizer, steps=1000)
    assert found.start == "the closed form"
    start, best = found.history.value[0], float(oracle.residual / held.count)
    assert float(found.value) < float(start)
    assert float(found.value) == pytest.approx(best, rel=1e-3)
    assert float(start) > best * (1 + 2e-3)


def test_a_batch_of_problems_is_a_loop_and_each_stops_by_itself():
    cross, rotation, init = planted(5, (8, 8), batch=(3,))
    # The second begins at its optimum.
    init = init.at[1].set(rotation[1])
    found = fit(cross, init, components="given")
    assert np.abs(found.point - rotation).max() < OPTIMIZED
    assert found.value.shape == found.steps.shape == found.status.shape == (3,)
    assert int(found.steps[1]) == 0
    assert int(found.steps[0]) > 5
    for k in range(3):
        one = fit(cross[k], init[k], components="given")
        assert abs(int(one.steps) - int(found.steps[k])) <= 1
        assert np.abs(one.point - found.point[k]).max() < OPTIMIZED


def test_components_of_a_batch_are_chosen_one_by_one_and_nan_is_said():
    signs = [1, -1, 1]
    parts = [planted(k, (8, 8), sign=sign) for k, sign in enumerate(signs)]
    cross, rotation, init = (jnp.stack(part) for part in zip(*parts, strict=True))
    init = init.at[0, :, 0].multiply(-1)
    found = fit(cross, init)
    assert np.abs(found.point - rotation).max() < OPTIMIZED
    assert found.reflected.tolist() == [True, False, False]
    assert found.determinant.tolist() == signs
    assert "1 of 3 problems" in found.describe()
    found = fit(cross.at[1, 0, 0].set(jnp.nan), init)
    ok = ja.Status.OK
    assert found.status.tolist() == [ok, ja.Status.NON_FINITE, ok]


def test_it_stops_when_the_gradient_is_small_and_says_when_it_did_not():
    cross, _, init = planted(6, (8, 8))
    short = fit(cross, init, steps=3, components="given")
    assert int(short.status) == ja.Status.NOT_CONVERGED
    assert int(short.steps) == 3
    with pytest.raises(ja.SolveError, match="NOT_CONVERGED"):
        short.check()
    loose = fit(cross, init, tolerance=1e-2, components="given")
    fine = fit(cross, init, tolerance=1e-5, components="given")
    assert 3 < int(loose.steps) < int(fine.steps) < 300
    assert float(fine.gradient_norm) <= 2e-5


def test_history_falls_and_repeats_the_end():
    cross, _, init = planted(7, (8, 8))
    found = fit(cross, init, components="given")
    history = jax.device_get(found.history)
    assert history.step.shape == history.value.shape == (61,)
    assert history.step[0] == 0
    assert history.step[-1] == int(found.steps) < 300
    start = -np.sum(np.asarray(cross) * np.asarray(init))
    assert history.value[0] == pytest.approx(start, rel=1e-6)
    assert history.value[-1] == pytest.approx(float(found.value), rel=1e-5)
    assert (np.diff(history.value) <= 1e-5).all()
    ended = history.step == history.step[-1]
    assert len(np.unique(history.value[ended])) == 1
    assert history.orthogonality_error.max() < 100 * F32


def test_landing_ends_on_the_manifold():
    cross, _, init = planted(9, (8, 8))
    optimizer = st.landing(0.3)
    found = fit(cross, init, optimizer, steps=30, tolerance=0.0, components="given")
    assert found.history.orthogonality_error.max() > 1e3 * F32
    assert float(found.orthogonality_error) < 20 * F32
    assert int(found.status) == ja.Status.NOT_CONVERGED


def test_it_runs_under_jit_and_vmap():
    cross, rotation, init = planted(12, (8, 8), batch=(2,))

    @jax.jit
    @jax.vmap
    def run(cross, init, tolerance):
        found = fit(cross, init, tolerance=tolerance)
        return found.point, found.steps

    same = jnp.stack([cross[0]] * 2), jnp.stack([init[0]] * 2)
    _, steps = run(*same, jnp.array([1e-2, 1e-4]))
    assert 0 < steps[0] < steps[1] < 300
    points, _ = run(cross, init, jnp.array([1e-5, 1e-5]))
    assert np.abs(points - rotation).max() < OPTIMIZED


# Schedules of optax divide integers by numbers.
@pytest.mark.standard_promotion
def test_a_tree_of_points_is_one_problem_for_any_chain_that_ends_in_a_retraction():
    cross, rotation, init = planted(13, (8, 8))
    wide, turned, begun = planted(14, (4, 8))
    objective = jax.tree_util.Partial(_sum, {"square": cross, "wide": wide})
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        st.to_riemannian_gradient(),
        optax.scale_by_learning_rate(optax.cosine_decay_schedule(1.0, 400)),
        st.retract_updates("qr"),
    )
    start = {"square": init, "wide": begun}
    found = st.fit(objective, start, optimizer, steps=400, tolerance=0.0)
    assert np.abs(found.point["square"] - rotation).max() < OPTIMIZED
    assert np.abs(found.point["wide"] - turned).max() < 10 * OPTIMIZED
    assert int(found.determinant) == 0
    assert found.value.shape == ()


def _sum(cross, point):
    return -sum(jnp.sum(cross[name] * point[name]) for name in cross)


def test_several_models_go_to_one_frame():
    rng = np.random.default_rng(15)
    turns = [np.eye(6), orthonormal(rng, 6, 6), orthonormal(rng, 6, 6)]
    latent = rng.standard_normal((300, 6))
    rows = [
        (latent @ turn.T + 0.05 * rng.standard_normal((300, 6))).astype(np.float32)
        for turn in turns
    ]
    pairs = [(0, 1), (1, 2), (0, 2)]
    empty = ja.moments.init_moments(6, 6)
    held = [ja.moments.update_moments(empty, rows[a], rows[b]) for a, b in pairs]
    objective = st.consensus_objective(held, pairs)
    best = objective.closed_form_start()
    # Away from the optimum, within each component.
    moved = [nearest(one + 0.1 * rng.standard_normal((6, 6)))[0] for one in best]
    moved = jnp.asarray(np.stack(moved), jnp.float32)
    found = st.fit(objective, moved, st.riemannian_sgd(0.2, momentum=0.5), steps=300)
    lowest = float(objective(best))
    assert float(found.history.value[0]) > 10 * lowest
    assert float(found.value) == pytest.approx(lowest, rel=1e-3)
    # All maps are reflected together: no one determinant to speak of.
    assert "Determinant" not in found.describe()
    assert "start's: value" in found.describe()


def test_float64_reaches_its_own_rounding(x64):
    cross, rotation, init = planted(16, (8, 8), dtype=np.float64)
    found = fit(cross, init, steps=600, tolerance=1e-13, components="given")
    assert found.point.dtype == jnp.float64
    assert np.abs(found.point - rotation).max() < 1e-11
    assert float(found.orthogonality_error) < 20 * eps(np.float64)


def test_mistakes_are_refused_by_name(no_shape_hook):
    tall = np.eye(4, 2, dtype=np.float32)
    for name, change in (
        ("steps", {"steps": 0}),
        ("record_every", {"record_every": 2.5}),
        ("tolerance", {"tolerance": -1.0}),
        ("tolerance", {"tolerance": None}),
        ("optimizer", {"optimizer": "adam"}),
        ("components", {"components": "all"}),
        ("components", {"init": tall, "components": "both"}),
        ("init", {"init": "closed_form"}),
        ("init", {"init": np.ones((4, 4), np.float32)}),
        ("objective", {"objective": 3.0}),
        ("objective", {"objective": lambda point: point[0]}),
    ):
        options = {
            "objective": lambda point: -jnp.trace(point[:2, :2]),
            "init": jnp.eye(4),
            "optimizer": STEADY,
        }
        with pytest.raises(ValueError, match=rf"{name}(=|\(params)"):
            st.fit(**options | change)
