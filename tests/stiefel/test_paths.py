# SPDX-License-Identifier: Apache-2.0
"""Orthonormal parameters among others: picked by path, trained side by side."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxalign as ja
from tests.tolerances import eps


class Mixer(nnx.Module):
    """A user's module: one orthonormal weight among others."""

    def __init__(self, rngs):
        self.turn = nnx.Param(ja.stiefel.random_point(rngs.params(), (6, 6)))
        self.head = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, rows):
        return self.head(jnp.tanh(rows @ self.turn[...].T))


# Adam of optax raises numbers to integers.
@pytest.mark.standard_promotion
def test_a_module_trains_with_one_orthonormal_weight():
    module = Mixer(nnx.Rngs(0))
    optimizer = optax.multi_transform(
        {"stiefel": ja.stiefel.cayley_adam(0.1), "rest": optax.adam(1e-2)},
        ja.stiefel.label_paths("turn"),
    )
    trainer = nnx.Optimizer(module, optimizer, wrt=nnx.Param)
    rows = jax.random.normal(jax.random.key(0), (64, 6))
    wanted = jnp.tanh(rows[:, ::-1])[:, :2]

    def loss(module):
        return jnp.mean(jnp.square(module(rows) - wanted))

    @nnx.jit
    def step(module, trainer):
        value, gradients = nnx.value_and_grad(loss)(module)
        trainer.update(module, gradients)
        return value

    before = module.turn[...], module.head.kernel[...]
    values = [float(step(module, trainer)) for _ in range(200)]
    ja.stiefel.check_on_manifold(trainer.opt_state)
    assert values[-1] < 0.05 * values[0]
    turn = np.asarray(module.turn[...])
    assert np.abs(turn.T @ turn - np.eye(6)).max() < 20 * eps(np.float32)
    assert np.abs(turn - before[0]).max() > 0.1
    assert np.abs(module.head.kernel[...] - before[1]).max() > 0.1


def test_labels_follow_patterns():
    params = {"a": {"turn": 0, "bias": 0}, "b": [{"turn": 0}, {"kernel": 0}]}
    label = ja.stiefel.label_paths("*/turn")
    assert label(params) == {
        "a": {"turn": "stiefel", "bias": "rest"},
        "b": [{"turn": "stiefel"}, {"kernel": "rest"}],
    }


def test_a_pattern_that_fits_nothing_is_refused_with_the_paths():
    with pytest.raises(ValueError, match="there are a/turn, bias"):
        ja.stiefel.label_paths("turn")({"a": {"turn": 0}, "bias": 0})
    with pytest.raises(ValueError, match="patterns of paths"):
        ja.stiefel.label_paths()
