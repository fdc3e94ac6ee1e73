# SPDX-License-Identifier: Apache-2.0
"""The Stiefel optimisers of jaxalign as solvers: a table, and their compiled runs.

Rates, momenta, horizons and numbers of steps are arguments of a run, so that tuning
compiles once a form. The loop is not that of `ja.stiefel.fit`: these runs are timed
step by step and their iterates judged, while `fit` also measures gradient and drift at
every step, and projects its end.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxalign as ja
from experiments.solvers.problem import Judge, Problem
from experiments.solvers.tuning import Method, Setting, grid, step_length

# Iterates that are computed at once for the judge.
_CHUNK = 8
# The Cayley transforms hand on what drift there is.
STABILIZE_EVERY = 10
_RECORDS = 48
_S = ja.stiefel


class Solver(NamedTuple):
    """An optimiser: how it is built, and what a user can choose.

    Attributes:
      build: from a learning rate and options to the optimiser.
      varies: the option that `variants` are of.
      variants: of that option.
      momenta: whether it has momentum.
      nesterov: whether it has Nesterov's form of it.
      adam: whether its rate is a length, and may have to fall.
      stabilizes: whether it corrects drift every so many steps.
    """

    build: Callable[..., optax.GradientTransformation]
    varies: str = ""
    variants: tuple[str, ...] = ("",)
    momenta: bool = False
    nesterov: bool = False
    adam: bool = False
    stabilizes: bool = True

    def unit(self, problem: Problem) -> float:
        """Return a likely rate: a step's length for Adam, else that of the gradient."""
        return step_length(problem) if self.adam else problem.unit_rate


_RETRACTIONS = ("polar", "qr", "cayley", "cayley_iterative")
SOLVERS = {
    "riemannian_sgd": Solver(
        _S.riemannian_sgd, "retraction", _RETRACTIONS, momenta=True, nesterov=True
    ),
    "riemannian_adam": Solver(
        _S.riemannian_adam, "retraction", _RETRACTIONS, adam=True
    ),
    "cayley_sgd": Solver(functools.partial(_S.cayley_sgd, momentum=0.0), momenta=True),
    "cayley_adam": Solver(_S.cayley_adam, adam=True),
    "landing": Solver(_S.landing, momenta=True, stabilizes=False),
    "pogo": Solver(
        _S.pogo,
        "precision",
        ("full", "mixed"),
        momenta=True,
        nesterov=True,
        stabilizes=False,
    ),
}


class Form(NamedTuple):
    """What of a solver and its setting is compiled into a run."""

    solver: str
    variant: str
    momentum: bool
    nesterov: bool
    falls: bool
    stabilize_every: int | None


class Numbers(NamedTuple):
    """What of a setting is an argument of a run."""

    rate: Any
    momentum: Any
    horizon: Any


def part(name: str, setting: Setting) -> tuple[Form, Numbers]:
    """Part a setting into what is compiled and what is an argument."""
    drifts = setting.variant.startswith("cayley") or not setting.variant
    every = STABILIZE_EVERY if drifts and SOLVERS[name].stabilizes else None
    form = Form(
        name,
        setting.variant,
        setting.momentum > 0,
        setting.nesterov,
        setting.horizon > 0,
        every,
    )
    values = setting.rate, setting.momentum, max(setting.horizon, 1)
    return form, Numbers(*(jnp.float32(one) for one in values))


def build(form: Form, numbers: Numbers) -> optax.GradientTransformation:
    """Build an optimiser; numbers may be traced."""
    solver, rate = SOLVERS[form.solver], numbers.rate
    options: dict[str, Any] = {}
    if form.variant:
        options[solver.varies] = form.variant
    if form.momentum:
        options["momentum"] = numbers.momentum
    if form.nesterov:
        options["nesterov"] = True
    if solver.stabilizes:
        options["stabilize_every"] = form.stabilize_every

    # optax's schedules want their length when they are made; here it is an argument.
    def falling(count):
        done = jnp.minimum(count / numbers.horizon, 1.0)
        return rate * 0.5 * (1.0 + jnp.cos(jnp.pi * done))

    return solver.build(falling if form.falls else rate, **options)


def advance(cross, point, state, numbers, gaps, *, form):
    """Take steps on ``-<Q, C>``; return point, state, and the point after each gap.

    Args:
      cross: C.
      point: where to start.
      state: of the optimiser; None: a fresh one.
      numbers: see `Numbers`.
      gaps: numbers of steps between two records, ``(k,)``.
      form: static.
    """
    optimizer = build(form, numbers)
    state = optimizer.init(point) if state is None else state

    def step(_, now):
        point, state = now
        gradient = jax.grad(lambda at: -jnp.sum(at * cross))(point)
        updates, state = optimizer.update(gradient, state, point)
        return optax.apply_updates(point, updates), state

    def record(now, gap):
        now = jax.lax.fori_loop(0, gap, step, now)
        return now, now[0]

    (point, state), points = jax.lax.scan(record, (point, state), gaps)
    return point, state, points


_advance = jax.jit(advance, static_argnames="form")


@functools.partial(jax.jit, static_argnames="form")
def _begin(start, numbers, *, form):
    return build(form, numbers).init(start)


def run(
    name: str,
    problem: Problem,
    setting: Setting,
    steps: int,
    watch: Judge | None = None,
) -> np.ndarray:
    """Take steps from the problem's start, every iterate watched; see `Method.run`."""
    form, numbers = part(name, setting)
    point, taken = jnp.asarray(problem.start), 0
    if watch is None:
        gaps = jnp.full((1,), steps, jnp.int32)
        return np.asarray(
            _advance(problem.cross, point, None, numbers, gaps, form=form)[0]
        )
    # Compiled before the first iterate, where the judge's clock starts.
    state, gaps = _begin(point, numbers, form=form), jnp.ones(_CHUNK, jnp.int32)
    while taken < steps:
        point, state, points = _advance(
            problem.cross, point, state, numbers, gaps, form=form
        )
        for one in np.asarray(points)[: steps - taken]:
            taken += 1
            if watch(one):
                return one
    return np.asarray(point)


def places(steps: int) -> np.ndarray:
    """Numbers of steps that are recorded, evenly on a logarithmic axis, ``(48,)``.

    Where there are fewer steps than records, the last ones repeat.
    """
    found = np.unique(np.round(np.geomspace(1, steps, _RECORDS)).astype(int))
    return np.concatenate([found, np.full(_RECORDS - len(found), steps)])


def run_records(
    name: str,
    problem: Problem,
    setting: Setting,
    steps: int,
    watch: Judge | None = None,
) -> np.ndarray:
    """Return the points after `places` steps, ``(48, d_target, d_source)``.

    A run as of `Method`, whose watch sees the records: one program serves the tuning,
    the course and its timing.
    """
    (form, numbers), records = part(name, setting), places(steps)
    compiled, _ = compiled_records(form, problem.shape)
    gaps = jnp.asarray(np.diff(records, prepend=0), jnp.int32)
    points = np.asarray(compiled(problem.cross, problem.start, numbers, gaps))
    for point, step in zip(points, records, strict=True):
        if watch is not None and watch(point, int(step)):
            break
    return points


@functools.cache
def compiled_records(form: Form, shape: tuple[int, int]) -> tuple[Callable, float]:
    """Compile a run that records points; return it, and the seconds that it took."""
    # A number of its own makes it a program that no cache knows; nor is it kept.
    own = 1e-30 * (time.time_ns() % 1_000_000_007)

    def loop(cross, start, numbers, gaps):
        numbers = numbers._replace(rate=numbers.rate + own)
        return advance(cross, start, None, numbers, gaps, form=form)[2]

    matrix = jax.ShapeDtypeStruct(shape, jnp.float32)
    numbers = Numbers(*[jax.ShapeDtypeStruct((), jnp.float32)] * 3)
    gaps = jax.ShapeDtypeStruct((_RECORDS,), jnp.int32)
    name = "jax_persistent_cache_min_compile_time_secs"
    kept = jax.config.values[name]
    jax.config.update(name, 1e9)
    try:
        began = time.perf_counter()
        compiled = jax.jit(loop).lower(matrix, matrix, numbers, gaps).compile()
        return compiled, time.perf_counter() - began
    finally:
        jax.config.update(name, kept)


def own_methods() -> list[Method]:
    """Return the optimisers of jaxalign, with all that a user can choose."""
    return [
        Method(
            f"jaxalign {name}",
            functools.partial(run, name),
            grid(
                solver.variants,
                momenta=solver.momenta,
                nesterov=solver.nesterov,
                adam=solver.adam,
            ),
            unit=solver.unit,
        )
        for name, solver in SOLVERS.items()
    ]
