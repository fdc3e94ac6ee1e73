# SPDX-License-Identifier: Apache-2.0
"""Polar factors on an accelerator: our methods and each SVD algorithm that JAX has.

On CUDA JAX's default is a Jacobi method up to 1024 rows. The reference is SciPy's SVD
in float64 of the same float32 matrix.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from experiments.benchmarks.accelerator_record import (
    OUT_OF_TIME,
    Measurement,
    timed,
)
from experiments.benchmarks.accelerator_timing import Job, Timing, time_in_turns
from jaxalign.solve.polar import POLAR_METHODS, polar_factor

WIDTHS, TINY_WIDTHS = (512, 768, 1024), (16, 24)
BATCH, TINY_BATCH = 8, 2
_HIGHEST = jax.lax.Precision.HIGHEST
# A batch of what takes longer one by one is left out.
_LONGEST_BATCH = 5.0
# Of singular values i^-p: the stable rank is 2.
_DECAY = 0.86


def _well_conditioned(d: int) -> np.ndarray:
    """Singular values from 1 to 1/10."""
    return np.geomspace(1.0, 0.1, d)


def _like_real(d: int) -> np.ndarray:
    """Singular values from 1 to 1e-8, with the stable rank of real moments."""
    power = np.arange(1.0, d + 1.0) ** -_DECAY
    return power * np.geomspace(1.0, 1e-8 / power[-1], d)


SPECTRA: dict[str, Callable[[int], np.ndarray]] = {
    "condition 10": _well_conditioned,
    "condition 1e8": _like_real,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A matrix, copies of it with permuted columns, and the reference.

    Attributes:
      matrix: ``(d, d)`` or ``(batch, d, d)``, float32, on the device.
      orders: of the columns, ``(batch, d)``; the polar factor of a matrix with permuted
        columns is the permuted factor.
      exact: the matrix before permutations, float64.
      left: singular vectors of `exact`, as columns.
      values: singular values of `exact`.
      right: singular vectors of `exact`, as rows.
    """

    matrix: jax.Array
    orders: np.ndarray
    exact: np.ndarray
    left: np.ndarray
    values: np.ndarray
    right: np.ndarray

    def batched(self, count: int) -> "Problem":
        """Return `count` copies with permuted columns."""
        rng = np.random.default_rng(1)
        d = self.exact.shape[0]
        orders = np.stack([rng.permutation(d) for _ in range(count)])
        stack = np.stack([self.exact[:, order] for order in orders])
        matrix = jax.device_put(stack.astype(np.float32))
        return dataclasses.replace(self, matrix=matrix, orders=orders)


def plant(d: int, spectrum: str) -> Problem:
    """Make a matrix of a named spectrum, with SciPy's factors of it."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    rounded = ((left * SPECTRA[spectrum](d)) @ right.T).astype(np.float32)
    exact = rounded.astype(np.float64)
    order = np.arange(d)[None]
    return Problem(jax.device_put(rounded), order, exact, *scipy.linalg.svd(exact))


def measure(problem: Problem, factors: jax.Array) -> dict[str, float]:
    """Measure polar factors in float64; the worst of a batch.

    Returns:
      "orthogonality": largest entry of ``|Q'Q - I|``. "trace": how much of the maximum
      of ``<Q, C>`` is missed. "distance": largest entry of the difference to the
      reference; rounding of `C` alone makes it large where `C` is ill-conditioned.
      "determined": largest norm of ``Q v - u`` over pairs of singular
      vectors whose singular value is above rounding.
    """
    d = problem.exact.shape[0]
    reference, total = problem.left @ problem.right, problem.values.sum()
    cutoff = d * np.finfo(np.float32).eps * problem.values[0]
    kept = int((problem.values > cutoff).sum())
    found: dict[str, list[float]] = {}
    stack = np.asarray(factors, np.float64).reshape(-1, d, d)
    for factor, order in zip(stack, problem.orders, strict=True):
        factor = factor[:, np.argsort(order)]
        moved = factor @ problem.right[:kept].T - problem.left[:, :kept]
        errors = {
            "orthogonality": np.abs(factor.T @ factor - np.eye(d)).max(),
            "trace": abs(total - (factor * problem.exact).sum()) / total,
            "distance": np.abs(factor - reference).max(),
            "determined": np.linalg.norm(moved, axis=0).max(),
        }
        for name, value in errors.items():
            found.setdefault(name, []).append(float(value))
    return {name: float(np.max(values)) for name, values in found.items()}


@functools.partial(jax.jit, static_argnames="algorithm")
def _by_svd(matrix, algorithm):
    """Polar factor by one SVD algorithm of JAX."""
    u, _, vt = jax.lax.linalg.svd(matrix, full_matrices=False, algorithm=algorithm)
    return jnp.matmul(u, vt, precision=_HIGHEST)


def engines() -> dict[str, Callable[[jax.Array], jax.Array]]:
    """Return all ways to the polar factor, ours first; each takes a matrix or batch."""

    def ours(method):
        return lambda matrix: polar_factor(matrix, method=method).factor

    named: dict[str, Callable[[jax.Array], jax.Array]] = {
        f"jaxalign {method}": ours(method) for method in POLAR_METHODS
    }
    for algorithm in jax.lax.linalg.SvdAlgorithm:
        # The default is what our "svd" takes.
        if algorithm.name != "DEFAULT":
            name = f"jax svd, {algorithm.name.lower()}"
            named[name] = functools.partial(_by_svd, algorithm=algorithm)
    return named


def time_polar(job: Job) -> Iterator[list[Measurement]]:
    """Time all engines: single matrices of all widths first, then batches."""
    widths = TINY_WIDTHS if job.tiny else WIDTHS
    size = TINY_BATCH if job.tiny else BATCH
    alone: dict[tuple[int, str], dict[str, Timing]] = {}
    for batch in (1, size):
        for d in widths:
            for spectrum in SPECTRA:
                if job.deadline.passed:
                    section = f"polar factor, {_title(batch, d, spectrum)}"
                    yield [Measurement(section, "all methods", note=OUT_OF_TIME)]
                    continue
                problem = plant(d, spectrum)
                if batch > 1:
                    problem = problem.batched(batch)
                before = alone.get((d, spectrum), {})
                timings = _time(job, problem, batch, before)
                if batch == 1:
                    alone[d, spectrum] = timings
                yield _lines(problem, _title(batch, d, spectrum), timings, before)


def _title(batch: int, d: int, spectrum: str) -> str:
    return f"{batch} of {d} x {d}, {spectrum}"


def _time(job, problem, batch, before) -> dict[str, Timing]:
    """Time the engines but for those that would take too long, or do not exist."""
    calls = {}
    for name, engine in engines().items():
        one = before.get(name, Timing())
        if not one.error and batch * (one.seconds or 0.0) <= _LONGEST_BATCH:
            calls[name] = functools.partial(engine, problem.matrix)
    return time_in_turns(calls, rounds=job.rounds, deadline=job.deadline)


def _lines(problem, title, timings, before) -> list[Measurement]:
    """Make the lines of one group, errors included."""
    shape = " x ".join(map(str, problem.matrix.shape))
    lines = []
    for name in engines():
        timing = timings.get(name)
        if timing is None:
            one = before[name]
            note = f"not run: one matrix takes {one.seconds or 0.0:.2f} s"
            timing = Timing(error=one.error)
        else:
            note = ""
        errors = {} if timing.value is None else measure(problem, timing.value)
        lines.append(
            timed(
                f"polar factor, {title}",
                name,
                timing,
                optional=not name.startswith("jaxalign"),
                note=note,
                shape=shape,
                dtype="float32",
                errors=errors,
            )
        )
    return lines
