# SPDX-License-Identifier: Apache-2.0
"""A closed form from a million rows that are drawn on the device.

First rows are drawn, added to the moments and dropped, a batch at a time: the peak of
memory is that of two batches. Then all rows are held, so that the pass over them can be
timed alone, against bare products and against torch on the same memory.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.accelerator_record import (
    Measurement,
    memory_stats,
    timed,
)
from experiments.benchmarks.accelerator_timing import Job, time_in_turns
from experiments.benchmarks.accelerator_torch import find_torch, fit_engine
from jaxalign.moments import Moments, init_moments, update_moments
from jaxalign.solve.polar import PolarMethod
from jaxalign.solve.procrustes import solve_procrustes

SECTION = "fit from rows on the device"
_HIGHEST = jax.lax.Precision.HIGHEST
_MEAN_NORM = 0.93
_METHODS = typing.get_args(PolarMethod)

Rows = tuple[jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How many batches of how many rows of which width."""

    batches: int = 16
    rows: int = 62_500
    width: int = 768

    @property
    def shape(self) -> str:
        """Of all rows of one side."""
        return f"{self.batches * self.rows} x {self.width}"

    @property
    def bytes(self) -> int:
        """Of all rows of both sides, float32."""
        return 2 * 4 * self.batches * self.rows * self.width

    def fitting(self, limit: int | None) -> "Sizes":
        """Return as many batches as leave half of the memory free."""
        sizes = self
        while limit and sizes.bytes > limit / 2 and sizes.batches > 1:
            sizes = dataclasses.replace(sizes, batches=sizes.batches // 2)
        return sizes


TINY = Sizes(batches=2, rows=3000, width=24)


@functools.partial(jax.jit, static_argnames=("rows",))
def draw(key: jax.Array, turn: jax.Array, rows: int) -> Rows:
    """Draw unit rows on a cone, of widths that fall off, and turn and shift them."""
    d = turn.shape[0]
    spread = jnp.sqrt((1.0 - _MEAN_NORM**2) / d) * jnp.geomspace(2.0, 0.2, d)
    latent = jax.random.normal(key, (rows, d)) * spread[None, :]
    source = latent + _MEAN_NORM * turn[:1]
    source = source / jnp.linalg.norm(source, axis=1, keepdims=True)
    # No noise: what the fit misses is rounding.
    target = jnp.matmul(source, turn.T, precision=_HIGHEST) + 0.5 * turn[1:2]
    return source, target


@jax.jit
def _product(sums: jax.Array, source: jax.Array, target: jax.Array) -> jax.Array:
    """Add one bare product: the least that a pass takes."""
    return sums + jnp.matmul(target.T, source, precision=_HIGHEST)


def _moments(batches: Sequence[Rows] | Iterator[Rows], width: int) -> Moments:
    """Add batches to empty moments."""
    moments = init_moments(width, width)
    for source, target in batches:
        moments = update_moments(moments, source, target)
    return moments


def _errors(turn: np.ndarray, rotation) -> dict[str, float]:
    """Measure a rotation against the planted one, in float64."""
    wide = np.asarray(rotation, np.float64)
    defect = wide.T @ wide - np.eye(len(wide))
    return {
        "distance": float(np.abs(wide - turn).max()),
        "orthogonality": float(np.abs(defect).max()),
    }


def time_fit(job: Job) -> Iterator[list[Measurement]]:
    """Time a streamed fit, then its parts on rows that are held, then torch."""
    wanted = TINY if job.tiny else Sizes()
    sizes = wanted.fitting(memory_stats().get("bytes_limit"))
    if sizes != wanted:
        note = "half of the memory does not hold more"
        yield [Measurement(SECTION, "fewer rows", sizes.shape, note=note)]
    planted = jax.random.orthogonal(jax.random.key(0), sizes.width)
    keys = jax.random.split(jax.random.key(1), sizes.batches)

    def batches() -> Iterator[Rows]:
        return (draw(key, planted, sizes.rows) for key in keys)

    turn = np.asarray(planted, np.float64)
    yield _stream(job, sizes, turn, batches)
    held = [jax.block_until_ready(pair) for pair in batches()]
    yield _hold(job, sizes, turn, held)
    yield _compare(job, sizes, turn, held)


def _stream(
    job: Job, sizes: Sizes, turn: np.ndarray, batches: Callable[[], Iterator[Rows]]
) -> list[Measurement]:
    """Time drawing alone, and drawing with moments; the difference is the pass."""
    before = memory_stats()

    def draw_and_drop() -> None:
        for pair in batches():
            jax.block_until_ready(pair)

    timings = time_in_turns(
        {
            "rows drawn and dropped": draw_and_drop,
            "rows drawn, added to moments": lambda: _moments(batches(), sizes.width),
        },
        rounds=job.rounds,
        deadline=job.deadline,
    )
    after = memory_stats()
    figures = {}
    if after:
        figures = {
            "peak_MB": after["peak_bytes_in_use"] / 1e6,
            "peak_MB_before": before["peak_bytes_in_use"] / 1e6,
            "rows_MB": sizes.bytes / 1e6,
        }
    lines = []
    for name, timing in timings.items():
        streamed = timing.value is not None
        errors = {}
        if streamed:
            errors = _errors(turn, solve_procrustes(timing.value).rotation)
        lines.append(
            timed(
                SECTION,
                name,
                timing,
                shape=sizes.shape,
                dtype="float32",
                errors=errors,
                figures=figures if streamed else {},
                note="" if after or not streamed else "the device tells no memory",
            )
        )
    return lines


def _hold(
    job: Job, sizes: Sizes, turn: np.ndarray, held: list[Rows]
) -> list[Measurement]:
    """Time the pass, bare products, and each method's solve, apart."""
    empty = jnp.zeros((sizes.width, sizes.width), jnp.float32)

    def products() -> jax.Array:
        sums = empty
        for source, target in held:
            sums = _product(sums, source, target)
        return sums

    moments = jax.block_until_ready(_moments(held, sizes.width))

    def solve(method: PolarMethod) -> Callable[[], jax.Array]:
        return lambda: solve_procrustes(moments, method=method).rotation

    passes = {
        "moments": lambda: _moments(held, sizes.width),
        "bare products": products,
    }
    solves = {f"solve, {method}": solve(method) for method in _METHODS}
    timings = time_in_turns(passes | solves, rounds=job.rounds, deadline=job.deadline)
    work = 2 * sizes.batches * sizes.rows * sizes.width**2
    lines = []
    for name, timing in timings.items():
        figures, errors, shape = {}, {}, sizes.shape
        if name in solves:
            shape = f"{sizes.width} x {sizes.width}"
            if timing.value is not None:
                errors = _errors(turn, timing.value)
        elif timing.seconds:
            figures = {"TFLOP_per_s": work / timing.seconds / 1e12}
        lines.append(
            timed(
                SECTION,
                name,
                timing,
                shape=shape,
                dtype="float32",
                errors=errors,
                figures=figures,
            )
        )
    return lines


def _compare(
    job: Job, sizes: Sizes, turn: np.ndarray, held: list[Rows]
) -> list[Measurement]:
    """Time the whole fit against torch."""

    def fit(method: PolarMethod) -> Callable[[], np.ndarray]:
        # Both engines bring the rotation to the host.
        return lambda: np.asarray(
            solve_procrustes(_moments(held, sizes.width), method=method).rotation
        )

    torch, reason = find_torch(job)
    calls = {f"jaxalign fit, {method}": fit(method) for method in _METHODS}
    if torch is not None:
        torch.forget_peak()
        calls["torch fit"] = fit_engine(torch, held)
    timings = time_in_turns(calls, rounds=job.rounds, deadline=job.deadline)
    lines = [
        timed(
            SECTION,
            name,
            timing,
            optional=name == "torch fit",
            shape=sizes.shape,
            dtype="float32",
            errors={} if timing.value is None else _errors(turn, timing.value),
            figures=torch.peak_memory() if torch and name == "torch fit" else {},
        )
        for name, timing in timings.items()
    ]
    if torch is None:
        lines.append(Measurement(SECTION, "torch fit", note=reason))
    return lines
