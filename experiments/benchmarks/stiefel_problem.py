# SPDX-License-Identifier: Apache-2.0
"""One planted problem for all Stiefel optimisers, and the judge of their iterates.

Procrustes from moments: minimise ``f(Q) = -<Q, C>`` over orthogonal matrices. The judge
works in float64 on the host, at the orthogonal matrix nearest to an iterate, and asks
that the iterate is near it: off the manifold, values below the minimum are to be had.
"""

import dataclasses
import time

import numpy as np

TARGET = 1e-6
# As the drift that is allowed: 100 eps of float32.
LARGEST_ERROR = 100.0 * float(np.finfo(np.float32).eps)
# Farther than this from the minimum, no projection decides whether it is reached.
_NEAR = 2e-5


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A cross-covariance with a known solution, and a start in its component.

    Attributes:
      cross: ``C``, ``(d, d)``, float32, largest singular value 1.
      start: orthogonal, ``(d, d)``, float32, determinant of the solution's sign.
      exact: `cross` in float64.
      best: the minimum, by SVD in float64.
      first: the value at the start.
    """

    cross: np.ndarray
    start: np.ndarray
    exact: np.ndarray
    best: float
    first: float


def plant(d: int, condition: float, seed: int = 0) -> Problem:
    """Make a problem whose singular values fall geometrically from 1 to 1/condition."""
    rng = np.random.default_rng(seed)
    left, right, start = (
        np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(3)
    )
    cross = ((left * np.geomspace(1.0, 1.0 / condition, d)) @ right.T).astype(
        np.float32
    )
    exact = cross.astype(np.float64)
    u, values, vt = np.linalg.svd(exact)
    # An optimiser that moves along the manifold never leaves its component.
    if np.linalg.det(u @ vt) * np.linalg.det(start) < 0:
        start[:, 0] *= -1.0
    start = start.astype(np.float32)
    return Problem(
        cross, start, exact, -float(values.sum()), -float((exact * start).sum())
    )


def orthogonality_error(point: np.ndarray) -> float:
    """Measure the largest entry of ``|Q'Q - I|`` in float64."""
    wide = point.astype(np.float64)
    return float(np.abs(wide.T @ wide - np.eye(wide.shape[1])).max())


def suboptimality(problem: Problem, point: np.ndarray) -> tuple[float, float]:
    """Return ``(f - f*) / (f0 - f*)`` at the nearest orthogonal matrix, and the error.

    Far from the manifold, or from the minimum, the value is that of `point` itself; far
    from the minimum, the error is NaN.
    """
    wide = point.astype(np.float64)
    gap = problem.first - problem.best
    raw = (-float((problem.exact * wide).sum()) - problem.best) / gap
    if not abs(raw) < _NEAR:
        return raw, float("nan")
    defect = wide.T @ wide - np.eye(wide.shape[1])
    error = float(np.abs(defect).max())
    if error > LARGEST_ERROR:
        return raw, error
    # Newton-Schulz, whose error is the defect's square: 1e-10 at most, after one step.
    nearest = wide - 0.5 * (wide @ defect)
    return float((-(problem.exact * nearest).sum() - problem.best) / gap), error


class Judge:
    """Watches a run: called with each iterate, says when the minimum is reached.

    Attributes:
      steps: iterates seen.
      least: smallest suboptimality seen on the manifold.
      reached: whether the latest is on the manifold and within `TARGET`.
      elapsed: seconds since the first iterate, but for the time spent here.
    """

    def __init__(self, problem: Problem, limit: float = np.inf):
        self.problem = problem
        self.steps = 0
        self.least = 1.0
        self.reached = False
        self.elapsed = 0.0
        self._limit = limit
        # Compiling goes before the first iterate.
        self._left: float | None = None

    def __call__(self, point: np.ndarray) -> bool:
        """Look at the next iterate; True ends the run: reached, or out of time."""
        if self._left is not None:
            self.elapsed += time.perf_counter() - self._left
        self.steps += 1
        value, error = suboptimality(self.problem, point)
        near = not error > LARGEST_ERROR
        if near:
            self.least = min(self.least, value)
        self.reached = bool(near and abs(value) <= TARGET)
        self._left = time.perf_counter()
        return self.reached or self.elapsed > self._limit or not np.isfinite(value)
