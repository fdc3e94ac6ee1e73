# SPDX-License-Identifier: Apache-2.0
"""Fits to a stream: against the closed form, in parts, over devices."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxalign as ja
from jaxalign.stiefel import stream
from tests.cases import planted_rows
from tests.tolerances import eps

# Schedules of optax divide integers by numbers.
pytestmark = pytest.mark.standard_promotion

st = ja.stiefel
F32 = eps(np.float32)
EPOCHS, ROWS, SIZE = 20, 512, 64
# One optimiser: one program for every test.
FALLING = st.riemannian_sgd(
    optax.cosine_decay_schedule(1.5, EPOCHS * ROWS // SIZE), momentum=0.5
)


def squares(point, batch):
    source, target = batch
    return jnp.mean(jnp.sum(jnp.square(source @ point.T - target), axis=-1))


def rows():
    rng = np.random.default_rng(18)
    source, target, _ = planted_rows(rng, ROWS, 8, noise=0.3)
    return source, target


def batches(epochs):
    source, target = rows()
    for _ in range(epochs):
        for k in range(0, ROWS, SIZE):
            yield source[k : k + SIZE], target[k : k + SIZE]


def test_a_stream_comes_near_the_closed_form():
    source, target = rows()
    u, _, vt = np.linalg.svd(target.T.astype(np.float64) @ source)
    best = u @ vt
    init = np.eye(8, dtype=np.float32)
    init[0, 0] = np.sign(np.linalg.det(best))
    reports = []
    found = st.fit_stream(
        squares,
        init,
        FALLING,
        batches(EPOCHS),
        record_every=16,
        report=lambda step, value: reports.append((step, value)),
    ).check()
    assert int(found.steps) == EPOCHS * ROWS // SIZE
    assert int(found.determinant) == int(init[0, 0])
    assert np.abs(found.point - best).max() < 0.02
    assert found.recorded_steps.tolist() == [step for step, _ in reports]
    assert float(found.recorded_values[-1]) < float(found.recorded_values[0])
    assert float(found.orthogonality_error) < 20 * F32


def test_a_stream_in_two_parts_is_one():
    init = jnp.eye(8)
    whole = st.fit_stream(squares, init, FALLING, batches(2))
    first = st.fit_stream(squares, init, FALLING, batches(1))
    second = st.fit_stream(squares, first.point, FALLING, batches(1), state=first.state)
    assert np.abs(whole.point - second.point).max() < 50 * F32
    # The caller's own start and state are not written over.
    assert np.array_equal(init, jnp.eye(8))
    st.fit_stream(squares, first.point, FALLING, batches(1), state=first.state)


@pytest.mark.compiled_text
def test_rows_split_over_devices_are_one_all_reduce():
    where = ja.sharding.row_sharding(ja.sharding.data_mesh())
    parts = [jax.device_put(batch, where) for batch in batches(1)]
    split = st.fit_stream(squares, jnp.eye(8), FALLING, parts)
    alone = st.fit_stream(squares, jnp.eye(8), FALLING, batches(1))
    assert np.abs(split.point - np.asarray(alone.point)).max() < 50 * F32
    arguments = jnp.eye(8), FALLING.init(jnp.eye(8)), parts[0]
    step = stream._step.lower(*arguments, loss=squares, optimizer=FALLING)
    text = step.compile().as_text()
    # The loss, a number, is summed as well.
    sums = re.findall(r"= (.*?) all-reduce(?:-start)?\(", text)
    assert "".join(sums).count("f32[8,8]") == 1
    assert not re.search(r" (all-gather|all-to-all|collective-permute)", text)


def test_streams_refuse_what_they_cannot_use():
    def each(point, batch):
        return squares(point, batch)[None]

    for name, change in (
        ("batches", {"batches": iter([])}),
        ("record_every", {"record_every": 0}),
        ("init", {"init": 2 * jnp.eye(8)}),
        ("loss", {"loss": each}),
    ):
        options = {
            "loss": squares,
            "init": jnp.eye(8),
            "optimizer": FALLING,
            "batches": batches(1),
        }
        with pytest.raises(ValueError, match=rf"{name}(=|\(params)"):
            st.fit_stream(**options | change)
    bad = [(np.full((SIZE, 8), np.nan, np.float32), np.ones((SIZE, 8), np.float32))]
    with pytest.raises(ja.SolveError, match="NON_FINITE"):
        st.fit_stream(squares, jnp.eye(8), FALLING, bad).check()
