# SPDX-License-Identifier: Apache-2.0
"""One table of optimisers, and the planted problem that each must solve."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxalign as ja


@dataclasses.dataclass(frozen=True)
class OptimizerCase:
    """An optimiser with settings that solve `planted` at condition number 4.

    Attributes:
      name: of the test.
      make: from a learning rate to the optimiser.
      rate: a learning rate for singular values up to 1.
      falls: whether the rate must fall to converge.
      near: largest orthogonality error on the way. Rounding, 30 eps, for exact
        retractions; what long steps leave for the others, until they get short.
    """

    name: str
    make: Callable[..., optax.GradientTransformation]
    rate: float
    falls: bool = False
    near: float = 30 * 1.2e-7

    def __str__(self) -> str:
        return self.name

    @functools.cache  # noqa: B019
    def build(self, steps: int = 300) -> optax.GradientTransformation:
        """Make the optimiser, the same one each time: it is static in a program."""
        rate = self.rate
        if self.falls:
            rate = optax.cosine_decay_schedule(self.rate, steps)
        return self.make(rate)


def _with(factory, **options):
    return functools.partial(factory, **options)


st = ja.stiefel
ALIASES = (
    "riemannian_sgd",
    "riemannian_adam",
    "cayley_sgd",
    "cayley_adam",
    "landing",
    "pogo",
)
OPTIMIZERS = (
    OptimizerCase("riemannian_sgd", st.riemannian_sgd, 1.0),
    OptimizerCase("sgd-momentum", _with(st.riemannian_sgd, momentum=0.5), 1.0),
    OptimizerCase(
        "sgd-nesterov", _with(st.riemannian_sgd, momentum=0.5, nesterov=True), 0.7
    ),
    OptimizerCase(
        "sgd-canonical-cayley",
        _with(
            st.riemannian_sgd,
            metric="canonical",
            retraction="cayley",
            stabilize_every=50,
        ),
        0.5,
    ),
    OptimizerCase("sgd-qr", _with(st.riemannian_sgd, retraction="qr"), 1.0),
    OptimizerCase("riemannian_adam", st.riemannian_adam, 0.3, falls=True),
    OptimizerCase("cayley_sgd", _with(st.cayley_sgd, momentum=0.5), 0.7, near=1e-2),
    OptimizerCase("cayley_adam", st.cayley_adam, 2.0, falls=True, near=1e-2),
    OptimizerCase("landing", st.landing, 1.0, near=0.5),
    OptimizerCase("pogo", st.pogo, 1.0, near=0.1),
    OptimizerCase("pogo-mixed", _with(st.pogo, precision="mixed"), 1.0, near=0.1),
    OptimizerCase("pogo-momentum", _with(st.pogo, momentum=0.5), 0.7, near=0.1),
)

SHAPES = ((12, 12), (16, 8), (8, 16))


def planted(seed, shape, *, sign=1, batch=(), dtype=np.float32):
    """Draw C = Q S of condition number 4, its polar factor Q, and a start near none.

    The start lies in the component of Q where there are two.
    """
    rng = np.random.default_rng(seed)
    rows, columns = shape
    width = min(shape)

    def orthonormal(n, k):
        q, r = np.linalg.qr(rng.standard_normal((*batch, n, k)))
        return q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]

    left, right = orthonormal(rows, width), orthonormal(columns, width)
    if rows == columns:
        signs = np.linalg.det(left) * np.linalg.det(right) * sign
        left[..., :, 0] *= np.sign(signs)[..., None]
    values = np.geomspace(1.0, 0.25, width)
    turned = np.swapaxes(right, -1, -2)
    cross, rotation = (left * values) @ turned, left @ turned
    start = orthonormal(max(shape), width)
    if rows < columns:
        start = np.swapaxes(start, -1, -2)
    if rows == columns:
        wrong = np.sign(np.linalg.det(start)) != np.sign(np.linalg.det(rotation))
        start[..., :, 0] *= np.where(wrong, -1.0, 1.0)[..., None]
    return tuple(jnp.asarray(one.astype(dtype)) for one in (cross, rotation, start))


def linear(cross):
    """Make -<Q, C> that carries its matrix as data."""
    return jax.tree_util.Partial(_linear, cross)


def _linear(cross, point):
    return -jnp.sum(cross * point, axis=(-2, -1))


@functools.partial(jax.jit, static_argnames=("optimizer", "steps", "gradient"))
def descend(optimizer, cross, start, *, steps=300, gradient=None):
    """Run a plain optax loop, for -<Q, C> or by a gradient of the point and C."""

    def step(carry, _):
        point, state = carry
        found = -cross if gradient is None else gradient(point, cross)
        updates, state = optimizer.update(found, state, point)
        return (optax.apply_updates(point, updates), state), point

    carry = (start, optimizer.init(start))
    (point, _), path = jax.lax.scan(step, carry, None, length=steps)
    return point, path
