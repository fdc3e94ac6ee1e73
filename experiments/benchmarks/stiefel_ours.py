# SPDX-License-Identifier: Apache-2.0
"""The Stiefel optimisers of jaxalign, in the form in which all are compared.

One compiled loop over `optax.apply_updates`, with rates and momenta as arguments, so
that tuning compiles once a method. The gradient is `jax.grad`'s.
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxalign as ja
from experiments.benchmarks.stiefel_problem import Problem
from experiments.benchmarks.stiefel_settings import Method, Setting, Watch, frobenius

# Iterates that are computed at once for the judge.
_CHUNK = 8
# The Cayley transforms hand on what drift there is.
STABILIZE_EVERY = 10


class Numbers(NamedTuple):
    """What a setting consists of, but for its form."""

    rate: jax.Array
    momentum: jax.Array
    horizon: jax.Array


class Form(NamedTuple):
    """What of a setting is compiled into the loop."""

    variant: str
    momentum: bool
    nesterov: bool
    decays: bool


Build = Callable[[Form, Numbers, int | None], optax.GradientTransformation]


def _rate(form: Form, numbers: Numbers):
    """Learning rate: a number, or a schedule that falls to 0 by a cosine."""
    if not form.decays:
        return numbers.rate
    return lambda count: (
        numbers.rate
        * 0.5
        * (1.0 + jnp.cos(jnp.pi * jnp.minimum(count / numbers.horizon, 1.0)))
    )


def _riemannian_sgd(form, numbers, stabilize):
    return ja.stiefel.riemannian_sgd(
        _rate(form, numbers),
        momentum=numbers.momentum if form.momentum else None,
        nesterov=form.nesterov,
        retraction=form.variant,
        stabilize_every=stabilize,
    )


def _riemannian_adam(form, numbers, stabilize):
    return ja.stiefel.riemannian_adam(
        _rate(form, numbers), retraction=form.variant, stabilize_every=stabilize
    )


def _cayley_sgd(form, numbers, stabilize):
    return ja.stiefel.cayley_sgd(
        _rate(form, numbers), momentum=numbers.momentum, stabilize_every=stabilize
    )


def _cayley_adam(form, numbers, stabilize):
    return ja.stiefel.cayley_adam(_rate(form, numbers), stabilize_every=stabilize)


def _landing(form, numbers, stabilize):
    del stabilize
    momentum = numbers.momentum if form.momentum else None
    return ja.stiefel.landing(_rate(form, numbers), momentum=momentum)


def _pogo(form, numbers, stabilize):
    del stabilize
    return ja.stiefel.pogo(
        _rate(form, numbers),
        momentum=numbers.momentum if form.momentum else None,
        nesterov=form.nesterov,
        precision=form.variant or "full",
    )


class Ours(NamedTuple):
    """An optimiser of jaxalign: how it is built, and what a user can choose."""

    build: Build
    momenta: bool = False
    nesterov: bool = False
    adam: bool = False
    variants: tuple[str, ...] = ("",)
    stabilizes: bool = True


_RETRACTIONS = ("polar", "qr", "cayley", "cayley_iterative")
OURS = {
    "riemannian_sgd": Ours(_riemannian_sgd, True, True, variants=_RETRACTIONS),
    "riemannian_adam": Ours(_riemannian_adam, adam=True, variants=_RETRACTIONS),
    "cayley_sgd": Ours(_cayley_sgd, True),
    "cayley_adam": Ours(_cayley_adam, adam=True),
    "landing": Ours(_landing, True, stabilizes=False),
    "pogo": Ours(_pogo, True, True, variants=("full", "mixed"), stabilizes=False),
}


def own_methods() -> list[Method]:
    """Return the optimisers of jaxalign."""
    return [
        Method(
            f"jaxalign {name}",
            functools.partial(run_ours, ours.build),
            momenta=ours.momenta,
            nesterov=ours.nesterov,
            adam=ours.adam,
            variants=ours.variants,
            likely=frobenius if ours.adam else lambda d: 0,
        )
        for name, ours in OURS.items()
    ]


def run_ours(
    build: Build,
    problem: Problem,
    setting: Setting,
    steps: int,
    watch: Watch | None = None,
) -> np.ndarray:
    """Take steps from the problem's start; see `Method.run`."""
    form, numbers = _parts(setting)
    if watch is None:
        found = _descend(problem.cross, problem.start, numbers, steps, build, form)
        return np.asarray(found)
    point, state = _begin(problem.start, numbers, build, form)
    taken = 0
    while taken < steps:
        point, state, points = _record(
            problem.cross, point, state, numbers, build, form
        )
        for one in np.asarray(points)[: steps - taken]:
            taken += 1
            if watch(one):
                return one
    return np.asarray(point)


def compile_seconds(build: Build, problem: Problem, setting: Setting) -> float:
    """Time compiling the loop of a setting."""
    form, numbers = _parts(setting)

    # A number of its own makes it a program that no cache knows, on disk or in memory.
    own = 1e-30 * (time.time_ns() % 1_000_000_007)

    def loop(cross, start, numbers, steps):
        numbers = numbers._replace(rate=numbers.rate + own)
        return _steps(cross, start, numbers, steps, build, form)

    arguments = problem.cross, problem.start, numbers, jnp.int32(1)
    began = time.perf_counter()
    jax.jit(loop).lower(*arguments).compile()
    return time.perf_counter() - began


def _parts(setting: Setting) -> tuple[Form, Numbers]:
    """Part a setting into what is compiled and what is an argument."""
    form = Form(
        setting.variant, setting.momentum > 0, setting.nesterov, setting.horizon > 0
    )
    values = setting.rate, setting.momentum, max(setting.horizon, 1)
    return form, Numbers(*(jnp.float32(one) for one in values))


def _optimizer(build, form, numbers):
    drifts = form.variant.startswith("cayley") or not form.variant
    return build(form, numbers, STABILIZE_EVERY if drifts else None)


def _step(optimizer, cross, point, state):
    """Take one step on -<Q, C>."""
    gradient = jax.grad(lambda at: -jnp.sum(at * cross))(point)
    updates, state = optimizer.update(gradient, state, point)
    return optax.apply_updates(point, updates), state


def _steps(cross, start, numbers, steps, build, form):
    """Take `steps` steps; their number is no part of the program."""
    optimizer = _optimizer(build, form, numbers)
    return jax.lax.fori_loop(
        0,
        steps,
        lambda _, now: _step(optimizer, cross, *now),
        (jnp.asarray(start), optimizer.init(start)),
    )[0]


_descend = jax.jit(_steps, static_argnums=(4, 5))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _begin(start, numbers, build, form):
    return jnp.asarray(start), _optimizer(build, form, numbers).init(start)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _record(cross, point, state, numbers, build, form):
    """Take a few steps and return each iterate."""
    optimizer = _optimizer(build, form, numbers)

    def step(now, _):
        now = _step(optimizer, cross, *now)
        return now, now[0]

    (point, state), points = jax.lax.scan(step, (point, state), None, length=_CHUNK)
    return point, state, points
