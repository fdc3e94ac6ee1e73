# SPDX-License-Identifier: Apache-2.0
"""What comes after a step is told; what belongs before it keeps to the manifold."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxalign as ja
from jaxalign.stiefel.feasibility import largest_excess
from tests.stiefel.optimizer_cases import linear, planted
from tests.tolerances import OPTIMIZED, eps

# Plateaus of optax multiply integers by numbers.
pytestmark = pytest.mark.standard_promotion

st = ja.stiefel
F32 = eps(np.float32)
# Down to a quarter: near the optimum values stop falling, steps need not.
PLATEAU = optax.contrib.reduce_on_plateau(factor=0.5, patience=5, min_scale=0.25)


def error(point):
    """Root mean square of X'X - I."""
    point = np.asarray(point, np.float64)
    width = point.shape[-1]
    return np.linalg.norm(point.T @ point - np.eye(width)) / np.sqrt(width)


@pytest.mark.parametrize("make", [st.riemannian_sgd, st.landing, st.pogo])
def test_the_distance_from_the_manifold_is_recorded(make):
    share = 0.3
    optimizer = optax.chain(make(0.3), optax.scale(share))
    # In the plane a step turns: X'X - I is a multiple of I, which no probe estimates.
    gradient = jnp.array([[0.0, 1.0], [-1.0, 0.0]])

    @jax.jit
    def two_steps(start):
        step, state = optimizer.update(gradient, optimizer.init(start), start)
        point = optax.apply_updates(start, step)
        _, state = optimizer.update(gradient, state, point)
        return step, point, state

    step, point, state = two_steps(jnp.eye(2))
    reached = np.eye(2) + np.asarray(step, np.float64) / share
    expected = error(point) - error(reached)
    (found,) = largest_excess(state)
    # Landing may be as far off as its own step ends; a third of the way is less.
    assert (expected > 0.01) == (make is not st.landing)
    assert float(found[0, 0]) == pytest.approx(max(expected, 0.0), abs=10 * F32)
    if expected > 0:
        with pytest.raises(ja.SolveError, match="step_transform") as caught:
            st.check_on_manifold(state)
        assert caught.value.status is ja.Status.OFF_MANIFOLD
    else:
        st.check_on_manifold(state)


def test_outside_of_jit_the_next_update_raises():
    optimizer = optax.chain(st.riemannian_sgd(0.8), optax.scale(0.3))
    point, gradient = jnp.eye(2), jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    step, state = optimizer.update(gradient, optimizer.init(point), point)
    with pytest.raises(ValueError, match="step_transform"):
        optimizer.update(gradient, state, optax.apply_updates(point, step))


def test_a_plateau_reduces_steps_on_the_manifold():
    cross, rotation, start = planted(1, (8, 8))
    options = {"steps": 100, "tolerance": 1e-4, "components": "given"}

    def fit(optimizer):
        return st.fit(linear(cross), start, optimizer, **options)

    # Twice the longest step that converges: it takes the plateau to get there.
    found = fit(st.riemannian_sgd(4.0, step_transform=PLATEAU)).check()
    assert np.abs(found.point - rotation).max() < OPTIMIZED
    assert found.history.orthogonality_error.max() < 30 * F32
    assert int(fit(st.riemannian_sgd(4.0)).status) == ja.Status.NOT_CONVERGED


def test_fits_tell_which_problems_left_the_manifold():
    cross, rotation, start = planted(1, (8, 8), batch=(2,))
    # The first takes no step: it is at its optimum.
    start = start.at[0].set(rotation[0])
    behind = optax.chain(st.riemannian_sgd(4.0), PLATEAU)
    found = st.fit(linear(cross), start, behind, steps=40, components="given")
    assert found.status.tolist() == [ja.Status.OK, ja.Status.OFF_MANIFOLD]
    assert found.history.orthogonality_error[:, 1].max() > 1e-3
    with pytest.raises(ja.SolveError, match="step_transform"):
        found.check()
    # The point is brought back all the same.
    assert found.orthogonality_error.max() < 20 * F32
    # An optimiser without any step on the manifold.
    found = st.fit(linear(cross), start, optax.sgd(0.3), steps=20, components="given")
    assert found.status.tolist() == [ja.Status.OK, ja.Status.OFF_MANIFOLD]


def test_streams_tell_it_and_give_the_loss_to_the_transformation():
    batches = [np.eye(4, dtype=np.float32) + np.float32(0.1) * k for k in range(8)]
    _, _, start = planted(2, (4, 4))

    def loss(point, batch):
        return jnp.mean(jnp.square(batch @ point.T - batch))

    def fit(optimizer):
        return st.fit_stream(loss, start, optimizer, batches)

    fit(st.riemannian_sgd(0.5, step_transform=PLATEAU)).check()
    with pytest.raises(ja.SolveError, match="step_transform"):
        fit(optax.chain(st.riemannian_sgd(0.5), optax.scale(0.5))).check()


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="step_transform="):
        st.pogo(0.1, step_transform=0.5)
    with pytest.raises(ValueError, match="state="):
        st.check_on_manifold(optax.sgd(0.1).init(jnp.eye(2)))
