# SPDX-License-Identifier: Apache-2.0
"""Fits that go on from a state, and optimisers whose numbers are data."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxalign as ja
from jaxalign.errors import UserError
from tests.compilations import compilations
from tests.stiefel.optimizer_cases import linear, planted
from tests.tolerances import OPTIMIZED, eps

# Schedules of optax divide integers by numbers.
pytestmark = pytest.mark.standard_promotion

st = ja.stiefel
F32 = eps(np.float32)
CROSS, ROTATION, INIT = planted(21, (8, 8))
FALLING = optax.cosine_decay_schedule(0.3, 20)


def inject(factory, *args, **options):
    return optax.inject_hyperparams(factory)(*args, **options)


def fit(optimizer, *, init: Any = INIT, cross: Any = CROSS, **options: Any):
    options = {"steps": 20, "tolerance": 0.0, "components": "given"} | options
    return st.fit(linear(cross), init, optimizer, **options)


@pytest.mark.parametrize(
    ("optimizer", "first"),
    [
        (st.riemannian_sgd(0.3, momentum=0.9), 10),
        # Between two records: the scan goes on, the state must not.
        (st.riemannian_sgd(0.3, momentum=0.9), 7),
        (st.riemannian_adam(FALLING), 10),
        (st.cayley_adam(0.5), 7),
        # Long steps of pogo end off the manifold, to which a fit brings its end.
        (st.pogo(0.02, momentum=0.5), 10),
        (inject(st.riemannian_adam, FALLING, b1=0.8), 7),
        (
            st.riemannian_sgd(
                0.3, step_transform=optax.contrib.reduce_on_plateau(patience=2)
            ),
            10,
        ),
    ],
)
def test_two_fits_end_where_one_does(optimizer, first):
    whole = fit(optimizer)
    begun = fit(optimizer, steps=first)
    rest = fit(optimizer, init=begun.point, state=begun.state, steps=20 - first)
    # Steps are not small: a fresh state ends elsewhere, 0.01 and more off.
    assert np.abs(rest.point - whole.point).max() < 100 * F32
    for one, other in zip(
        *map(jax.tree.leaves, (rest.state, whole.state)), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=300 * F32)
    if first == 10:
        assert int(rest.steps) == 10
        np.testing.assert_allclose(
            rest.history.value, whole.history.value[1:], rtol=10 * F32
        )


def test_the_state_of_a_problem_that_is_done_stays():
    optimizer = st.riemannian_sgd(1.0, momentum=0.4)
    crosses, _, inits = planted(22, (8, 8), batch=(2,))
    inits = inits.at[0].set(ja.solve.polar_factor(crosses[0]).factor)
    found = fit(optimizer, init=inits, cross=crosses, tolerance=1e-3)
    (trace,) = (
        leaf for leaf in jax.tree.leaves(found.state) if leaf.shape == (2, 8, 8)
    )
    assert int(found.steps[0]) == 0
    assert not np.asarray(trace[0]).any()
    assert np.asarray(trace[1]).any()


def test_the_state_after_both_components_is_that_of_the_better_run():
    cross, rotation, init = planted(23, (8, 8), sign=-1)
    wrong = init.at[:, 0].multiply(-1)
    optimizer = st.riemannian_sgd(0.5, momentum=0.5)
    both = fit(optimizer, init=wrong, cross=cross, components="both", steps=10)
    assert bool(both.reflected)
    rest = fit(
        optimizer,
        init=both.point,
        cross=cross,
        state=both.state,
        steps=200,
        components=None,
    )
    assert np.abs(rest.point - rotation).max() < OPTIMIZED
    assert not np.isfinite(rest.other_value)
    # A batch: each problem's momentum is that of its own better run.
    crosses, inits = jnp.stack([cross, cross]), jnp.stack([init, wrong])
    several = fit(optimizer, init=inits, cross=crosses, components="both", steps=10)
    assert several.reflected.tolist() == [False, True]
    traces = [
        leaf for leaf in jax.tree.leaves(several.state) if leaf.shape == (2, 8, 8)
    ]
    ends = fit(optimizer, init=wrong, cross=cross, components="given", steps=10)
    (kept,) = (leaf for leaf in jax.tree.leaves(both.state) if leaf.shape == (8, 8))
    (left,) = (leaf for leaf in jax.tree.leaves(ends.state) if leaf.shape == (8, 8))
    np.testing.assert_allclose(traces[0][1], kept, atol=100 * F32)
    assert np.abs(traces[0][1] - left).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "options", "numbers"),
    [
        ("riemannian_sgd", {"momentum": 0.5}, {"momentum": 0.3}),
        ("riemannian_adam", {}, {"b1": 0.8}),
        ("cayley_sgd", {"momentum": 0.5}, {"bound": 0.5}),
        ("cayley_adam", {}, {"b2": 0.9}),
        ("landing", {}, {"attraction": 0.5}),
        ("pogo", {"momentum": 0.5}, {"momentum": 0.2}),
    ],
)
def test_numbers_of_an_optimizer_are_data_of_one_program(name, options, numbers):
    factory = getattr(st, name)
    optimizer = inject(factory, 0.1, **options)
    fit(optimizer, hyperparams={"learning_rate": 0.1} | dict.fromkeys(numbers, 0.4))
    with compilations() as compiled:
        found = fit(optimizer, hyperparams={"learning_rate": 0.3} | numbers)
    assert not compiled
    plain = fit(factory(0.3, **(options | numbers)))
    assert np.abs(found.point - plain.point).max() < 100 * F32
    assert np.abs(found.point - fit(optimizer).point).max() > 1e-3
    # The state holds them: a fit that goes on needs no telling.
    rest = fit(optimizer, init=found.point, state=found.state, steps=1)
    held = rest.state.hyperparams
    assert float(held["learning_rate"]) == pytest.approx(0.3)
    for key, value in numbers.items():
        assert float(held[key]) == pytest.approx(value)


def test_schedules_and_step_transforms_work_beside_injected_numbers():
    clip = optax.clip_by_global_norm(0.05)
    optimizer = inject(
        st.riemannian_sgd, FALLING, momentum=0.9, step_transform=clip, retraction="qr"
    )
    found = fit(optimizer, hyperparams={"momentum": 0.5})
    plain = fit(
        st.riemannian_sgd(FALLING, momentum=0.5, step_transform=clip, retraction="qr")
    )
    assert np.abs(found.point - plain.point).max() < 100 * F32


def test_a_sweep_over_rates_is_one_program_by_vmap_and_by_batch():
    optimizer = inject(st.riemannian_sgd, 0.1)
    rates = jnp.array([0.03, 0.1, 0.5, 1.0])
    alone = [fit(optimizer, hyperparams={"learning_rate": rate}) for rate in rates]

    @jax.jit
    @jax.vmap
    def sweep(rate):
        return fit(optimizer, hyperparams={"learning_rate": rate}).value

    with compilations() as compiled:
        values = sweep(rates)
    assert len(compiled) == 1
    np.testing.assert_allclose(values, [float(one.value) for one in alone], rtol=1e-5)
    assert (np.diff(values) < -1e-3).all()
    stacked = functools.partial(jnp.broadcast_to, shape=(4, 8, 8))
    batch = fit(
        optimizer,
        init=stacked(INIT),
        cross=stacked(CROSS),
        hyperparams={"learning_rate": rates[:, None, None]},
    )
    np.testing.assert_allclose(batch.value, values, rtol=1e-5)


def test_a_stream_takes_numbers_as_data():
    batches = [CROSS] * 8

    def loss(point, cross):
        return -jnp.sum(point * cross)

    optimizer = inject(st.riemannian_sgd, 0.1)
    begun = st.fit_stream(loss, INIT, optimizer, batches)
    with compilations() as compiled:
        found = st.fit_stream(
            loss, INIT, optimizer, batches, hyperparams={"learning_rate": 0.5}
        )
    assert not compiled
    assert float(found.value) < float(begun.value) - 1e-2
    plain = st.fit_stream(loss, INIT, st.riemannian_sgd(0.5), batches)
    assert np.abs(found.point - plain.point).max() < 100 * F32


def test_states_and_numbers_that_do_not_fit_are_refused_by_name(no_shape_hook):
    sgd, injected = st.riemannian_sgd(0.3), inject(st.riemannian_sgd, 0.3)
    scheduled = inject(st.riemannian_sgd, FALLING)
    state = fit(sgd, steps=1).state
    rates = {"learning_rate": 0.1}
    for name, optimizer, options in (
        ("state", injected, {"state": state}),
        ("state", st.riemannian_sgd(0.3, momentum=0.5), {"state": state}),
        ("hyperparams", sgd, {"hyperparams": rates}),
        ("hyperparams", scheduled, {"hyperparams": rates}),
        ("hyperparams", injected, {"hyperparams": {"momentum": 0.1}}),
        ("hyperparams", injected, {"hyperparams": {"learning_rate": None}}),
        ("hyperparams", injected, {"hyperparams": {"learning_rate": "a"}}),
        ("components", sgd, {"state": state, "components": "both"}),
    ):
        with pytest.raises(UserError, match=rf"fit\({name}="):
            fit(optimizer, **options)
