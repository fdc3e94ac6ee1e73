# SPDX-License-Identifier: Apache-2.0
"""The optimisers that are compared, and their compiled runs."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxalign as ja
from experiments.solver_problems import Problem

MOMENTUM = 0.9
# The Cayley transforms hand on what drift there is.
_STABILIZE_EVERY = 10
_RECORDS = 48


@dataclasses.dataclass(frozen=True)
class Solver:
    """An optimiser that is compared.

    Attributes:
      build: from a learning rate.
      adam: whether its rate is a length, and must fall.
    """

    build: Callable[..., optax.GradientTransformation]
    adam: bool = False


_S = ja.stiefel
SOLVERS = {
    "riemannian_sgd": Solver(_S.riemannian_sgd),
    "riemannian_sgd, momentum": Solver(
        lambda rate: _S.riemannian_sgd(rate, momentum=MOMENTUM)
    ),
    "riemannian_sgd, Cayley": Solver(
        lambda rate: _S.riemannian_sgd(
            rate,
            momentum=MOMENTUM,
            retraction="cayley",
            stabilize_every=_STABILIZE_EVERY,
        )
    ),
    "riemannian_adam": Solver(_S.riemannian_adam, adam=True),
    "cayley_sgd": Solver(lambda rate: _S.cayley_sgd(rate, momentum=MOMENTUM)),
    "cayley_adam": Solver(_S.cayley_adam, adam=True),
    "landing": Solver(lambda rate: _S.landing(rate, momentum=MOMENTUM)),
    "pogo": Solver(lambda rate: _S.pogo(rate, momentum=MOMENTUM)),
    "pogo, mixed": Solver(
        lambda rate: _S.pogo(rate, momentum=MOMENTUM, precision="mixed")
    ),
}


TINY_SOLVERS = ("riemannian_sgd, momentum", "riemannian_adam", "pogo")


class Setting(NamedTuple):
    """Learning rate, and the steps over which it falls where it must."""

    rate: float
    horizon: int


class Programs:
    """Compiled runs: one for each solver and width, whatever the rate and the steps."""

    def __init__(self, labels: Sequence[str] = tuple(SOLVERS)):
        self.labels = tuple(labels)
        self._compiled = {}

    def run(
        self, label: str, problem: Problem, setting: Setting, records: np.ndarray
    ) -> np.ndarray:
        """Return the points after so many steps, ``(records, d_target, d_source)``."""
        compiled, _ = self._of(label, problem)
        gaps = jnp.asarray(np.diff(records, prepend=0), jnp.int32)
        numbers = [jnp.float32(number) for number in setting]
        found = compiled(problem.objective, problem.start, *numbers, gaps)
        return np.asarray(found)

    def seconds(self, label: str, problem: Problem) -> float:
        """Return what compiling took."""
        return self._of(label, problem)[1]

    def _of(self, label, problem):
        key = (label, problem.start.shape)
        if key not in self._compiled:
            self._compiled[key] = _compile(SOLVERS[label], problem)
        return self._compiled[key]


def _compile(solver: Solver, problem: Problem):
    """Compile a run anew, so that the time is that of compiling, not of a cache."""
    # A number of its own makes it a program that no cache knows; nor is it kept.
    own = 1e-30 * (time.time_ns() % 1_000_000_007)
    name = "jax_persistent_cache_min_compile_time_secs"
    kept = jax.config.values[name]
    gaps = jnp.zeros(_RECORDS, jnp.int32)
    loop = jax.jit(functools.partial(_descend, solver=solver, own=own))
    jax.config.update(name, 1e9)
    try:
        began = time.perf_counter()
        compiled = loop.lower(
            problem.objective, problem.start, jnp.float32(0), jnp.float32(0), gaps
        ).compile()
        return compiled, time.perf_counter() - began
    finally:
        jax.config.update(name, kept)


def _descend(objective, start, rate, horizon, gaps, *, solver, own):
    """Take steps; return the point after each gap."""
    rate = rate + own

    # optax's schedules want their length when they are made; here it is an argument.
    def falling(count):
        done = jnp.minimum(count / horizon, 1.0)
        return rate * 0.5 * (1.0 + jnp.cos(jnp.pi * done))

    optimizer = solver.build(falling if solver.adam else rate)

    def step(_, now):
        point, state = now
        updates, state = optimizer.update(jax.grad(objective)(point), state, point)
        return optax.apply_updates(point, updates), state

    def record(now, gap):
        now = jax.lax.fori_loop(0, gap, step, now)
        return now, now[0]

    return jax.lax.scan(record, (start, optimizer.init(start)), gaps)[1]


def places(steps: int) -> np.ndarray:
    """Numbers of steps that are recorded, evenly on a logarithmic axis, ``(48,)``.

    Where there are fewer steps than records, the last ones repeat.
    """
    found = np.unique(np.round(np.geomspace(1, steps, _RECORDS)).astype(int))
    return np.concatenate([found, np.full(_RECORDS - len(found), steps)])
