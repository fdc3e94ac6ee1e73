# SPDX-License-Identifier: Apache-2.0
"""What a step costs beside its products, and how far many steps drift."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxalign as ja
from experiments.benchmarks.alternating import median_seconds
from experiments.benchmarks.lines import Line
from experiments.benchmarks.stiefel_race import Sizes
from experiments.solvers.problem import orthogonality_error, plant
from experiments.solvers.table import SOLVERS, STABILIZE_EVERY, build, part
from experiments.solvers.tuning import Setting
from jaxalign.stiefel.retractions import RETRACTIONS, retract

_HIGHEST = jax.lax.Precision.HIGHEST
# Spectral norm of the tangent vector, as of a step halfway to the minimum.
_LENGTH = 0.1
# Work of a step for a square point, in products of 2 d^3 operations. Cholesky is 1/6,
# a triangular solve with d right sides 1/2, a linear solve 4/3.
PRODUCTS = {
    "qr": 1.0 + 1.0 / 6.0 + 0.5,
    "polar": 3.0,
    "cayley": 1.0 + 4.0 / 3.0,
    "cayley_iterative": 4.0,
    "landing": 5.0,
    "pogo": 4.0,
}


def time_retractions(sizes: Sizes, rounds: int) -> Iterator[list[Line]]:
    """Time steps against one product of two d x d matrices."""
    for d in sizes.widths:
        yield _time_width(d, rounds, sizes.rest)


def _time_width(d: int, rounds: int, rest: float) -> list[Line]:
    problem = plant(d, 10.0)
    point = jax.device_put(problem.start)
    vector = np.random.default_rng(1).standard_normal((d, d)).astype(np.float32)
    turn = vector - vector.T
    turn *= _LENGTH / np.linalg.norm(turn, 2)
    tangent = jax.device_put(problem.start @ turn)
    cross = jax.device_put(problem.cross)
    # Long enough that starting a program does not count.
    repeats = max(4, round(4e9 / (2.0 * d**3) / 16))

    def loop(step: Callable[..., jax.Array]) -> Callable[[], Any]:
        @jax.jit
        def run(point, tangent, cross):
            return jax.lax.fori_loop(
                0, repeats, lambda _, at: step(at, tangent, cross), point
            )

        return lambda: jax.block_until_ready(run(point, tangent, cross))

    def by_product(at, tangent, cross):
        del cross
        # Small, so that the values stay in range.
        return jnp.matmul(at, tangent, precision=_HIGHEST)

    def by_retraction(name):
        return lambda at, tangent, cross: retract(at, tangent, method=name)

    def by_optimizer(name):
        optimizer = build(*part(name, Setting(rate=0.1)))
        # Without momentum, what state there is only counts.
        state = optimizer.init(point)

        def step(at, tangent, cross):
            del tangent
            update, _ = optimizer.update(-cross, state, at)
            return at + update

        return step

    calls = {"product": loop(by_product)}
    calls |= {name: loop(by_retraction(name)) for name in RETRACTIONS}
    calls |= {name: loop(by_optimizer(name)) for name in ("landing", "pogo")}
    seconds = median_seconds(calls, rounds=rounds, warmups=1, rest=rest)
    title = f"a step against its products, d = {d}"
    unit = seconds["product"] / repeats
    lines = [Line(title, "one product", unit, note=f"{1e3 * unit:.3f} ms")]
    for name, products in PRODUCTS.items():
        taken = seconds[name] / repeats
        words = f"{1e3 * taken:.3f} ms; {products:.2g} products' work"
        if name not in RETRACTIONS:
            words = f"{words}, gradient and all"
        lines.append(Line(title, name, taken, ratio=taken / unit, note=words))
    return lines


def measure_drift(sizes: Sizes, rounds: int) -> Iterator[list[Line]]:
    """Measure orthogonality after many steps that do not die down."""
    del rounds
    steps = sizes.drift_steps
    for d in sizes.drift_widths:
        lines = []
        problem = plant(d, 10.0)
        title = f"orthogonality error in eps, {steps:,} steps with noise, d = {d}"
        for name, solver in SOLVERS.items():
            for variant in solver.variants if sizes.thorough else solver.variants[:1]:
                label = f"{name} {variant}".strip()
                for every in (_every(label), None) if solver.stabilizes else (None,):
                    found = _drifted(name, variant, every, problem, steps)
                    bounded = every is not None or name == "pogo"
                    words = f"stabilized every {every} steps" if every else ""
                    if solver.stabilizes and every is None:
                        words = "never stabilized"
                    lines.append(_drift_line(title, label, found, bounded, words))
                if name == "landing":
                    # Its points lie near the manifold, not on it, until steps get
                    # small; whoever needs one on it projects the last.
                    found = np.asarray(ja.solve.polar_factor(found).factor)
                    words = "the last point projected"
                    lines.append(_drift_line(title, label, found, True, words))
        yield lines


def _every(label: str) -> int:
    """Steps between corrections: the approximate transform needs each."""
    approximate = label.startswith("cayley") or label.endswith("cayley_iterative")
    return 1 if approximate else STABILIZE_EVERY


def _drifted(name, variant, every, problem, steps) -> np.ndarray:
    """Take steps with fresh noise in each gradient."""
    solver = SOLVERS[name]
    momentum = 0.9 if solver.momenta else 0.0
    form, numbers = part(name, Setting(variant, 0.1 * solver.unit(problem), momentum))
    optimizer = build(form._replace(stabilize_every=every), numbers)

    # Not `fit_stream`, which projects its end: this measures the drift before that.
    @jax.jit
    def run(cross, start):
        def step(count, now):
            point, state = now
            noise = jax.random.normal(jax.random.key(count), cross.shape)
            noise = 0.1 * noise / cross.shape[0] ** 0.5
            update, state = optimizer.update(noise - cross, state, point)
            return point + update, state

        # To where the next correction is due, where the error is largest.
        last = steps + (every or 1) - 1
        return jax.lax.fori_loop(0, last, step, (start, optimizer.init(start)))[0]

    return np.asarray(run(problem.cross, jnp.asarray(problem.start)))


def _drift_line(title, label, found, bounded, words) -> Line:
    error = orthogonality_error(found) / float(np.finfo(np.float32).eps)
    at_most = 100.0 if bounded else None
    return Line(title, label, ratio=error, at_most=at_most, note=words)
