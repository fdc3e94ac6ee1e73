# SPDX-License-Identifier: Apache-2.0
"""The problem that solvers are compared on, and the judge of their iterates.

Procrustes from moments: minimise ``f(Q) = -<Q, C>`` over orthonormal matrices. Points
are judged in float64 on the host, at the orthonormal matrix nearest to them, so that no
solver gains by leaving the manifold, where values below the minimum are found.
"""

import dataclasses
import functools
import math
import time

import jax
import numpy as np
from jaxtyping import Float

import jaxalign as ja

TARGET = 1e-6
"""Excess at which a problem counts as solved."""
LARGEST_ERROR = 100.0 * float(np.finfo(np.float32).eps)
"""Orthogonality error that a solver may leave: 100 eps of float32."""
# Newton-Schulz steps to the nearest orthonormal matrix: from 0.5 off to rounding.
_MOST_CORRECTIONS = 8
# Farther than this from the minimum, no projection decides whether it is reached.
_NEAR = 2e-5


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A cross-covariance, a start in the component of its optimum, and its origin.

    Attributes:
      cross: ``C``, ``(d_target, d_source)``, float32.
      start: orthonormal, of that shape, float32.
      name: a few characters.
      about: in words.
      steps: that optimisers may take.
      planted: the rotation behind the anchors, if it is known.
      seed: of the start.
      moments: of the anchors that `cross` is from; None if there are no anchors.
    """

    cross: np.ndarray
    start: np.ndarray
    name: str = ""
    about: str = ""
    steps: int = 0
    planted: np.ndarray | None = None
    seed: int = 0
    moments: ja.Moments | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Of a rotation."""
        return self.cross.shape

    @property
    def anchors(self) -> int:
        """How many anchors the problem is from; 0 if it is not from any."""
        return 0 if self.moments is None else int(self.moments.rows)

    @property
    def tuning_steps(self) -> int:
        """Of the short runs that choose a learning rate."""
        return max(2, min(self.steps // 4, 100))

    @property
    def unit_rate(self) -> float:
        """One over the largest singular value of the gradient ``-C``."""
        return float(1.0 / self._svd[0][0])

    @property
    def condition(self) -> float:
        """Of the cross-covariance, as sampled; infinite if rounding is reached."""
        values = self._svd[0]
        small = values[-1] <= values[0] * np.finfo(np.float32).eps
        return math.inf if small else float(values[0] / values[-1])

    @functools.cached_property
    def exact(self) -> np.ndarray:
        """`cross` in float64."""
        return np.asarray(self.cross, np.float64)

    @functools.cached_property
    def best(self) -> float:
        """The minimum, by SVD in float64."""
        return -float(self._svd[0].sum())

    @functools.cached_property
    def first(self) -> float:
        """The value at the start."""
        return -float((self.exact * np.asarray(self.start, np.float64)).sum())

    def excess(
        self, point: Float[np.ndarray, "d_target d_source"], *, near: float = math.inf
    ) -> tuple[float, float]:
        """Return ``(f - f*) / (f0 - f*)``, and the largest entry of ``|Q'Q - I|``.

        Args:
          point: any matrix; f is taken at the orthonormal matrix nearest to it.
          near: farther from the minimum the value is that of `point` itself, and the
            error NaN: it costs no product.
        """
        gap, wide = self.first - self.best, np.asarray(point, np.float64)
        raw = (-float((self.exact * wide).sum()) - self.best) / gap
        if not abs(raw) < near:
            return raw, math.nan
        nearest, error = _orthonormal(wide)
        return (-float((self.exact * nearest).sum()) - self.best) / gap, error

    def distance(self, point: np.ndarray) -> float:
        """Root mean square, over columns, of the distance to the planted rotation."""
        if self.planted is None:
            return math.nan
        return float(
            np.linalg.norm(np.asarray(point, np.float64) - self.planted)
            / np.sqrt(min(self.shape))
        )

    def describe(self) -> str:
        """Give size and condition number, in words."""
        (height, width), number = self.shape, self.condition
        words = f"{number:,.0f}" if number < 1e6 else f"{number:.1e}"
        if not math.isfinite(number):
            words = "beyond float32"
        anchors = (
            "" if self.moments is None else f"{int(self.moments.rows):,} anchors, "
        )
        return (
            f"{anchors}rotation {height} x {width}, condition number of the "
            f"cross-covariance {words}."
        )

    @functools.cached_property
    def _svd(self) -> tuple[np.ndarray, np.ndarray]:
        """Singular values of the cross-covariance, and the optimum."""
        u, values, vt = np.linalg.svd(self.exact, full_matrices=False)
        return values, u @ vt


def problem_of(
    moments: ja.Moments, name: str, about: str, *, steps: int, seed: int = 0, **known
) -> Problem:
    """Make the problem of anchors, ``mean |Q x - y|^2`` up to what Q leaves as it is.

    Args:
      moments: of the anchors, of one modality.
      name: a few characters.
      about: in words.
      steps: that optimisers may take.
      seed: of the start, a random point in the optimum's component.
      **known: `Problem.planted`.
    """
    cross = np.asarray(moments.cross_covariance * (2.0 / moments.count), np.float32)
    problem = Problem(cross, cross, name, about, steps, seed=seed, moments=moments)
    sign = None
    if cross.shape[0] == cross.shape[1]:
        sign = 1 if np.linalg.det(problem._svd[1]) > 0 else -1
    start = ja.stiefel.random_point(jax.random.key(seed), cross.shape, determinant=sign)
    return dataclasses.replace(problem, start=np.asarray(start), **known)


def plant(d: int, condition: float, seed: int = 0) -> Problem:
    """Make a problem whose singular values fall geometrically from 1 to 1/condition."""
    rng = np.random.default_rng(seed)
    left, right, start = (
        np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(3)
    )
    cross = (left * np.geomspace(1.0, 1.0 / condition, d)) @ right.T
    # An optimiser that moves along the manifold never leaves its component.
    if np.linalg.det(left @ right.T) * np.linalg.det(start) < 0:
        start[:, 0] *= -1.0
    return Problem(cross.astype(np.float32), start.astype(np.float32), seed=seed)


def orthogonality_error(point: np.ndarray) -> float:
    """Measure the largest entry of ``|Q'Q - I|`` in float64."""
    wide = np.asarray(point, np.float64)
    return float(np.abs(wide.T @ wide - np.eye(wide.shape[1])).max())


def _orthonormal(point: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the orthonormal matrix nearest to a point, and how far off it is."""
    tall = point if point.shape[0] >= point.shape[1] else point.T
    identity = np.eye(tall.shape[1])
    first = None
    for _ in range(_MOST_CORRECTIONS):
        defect = tall.T @ tall - identity
        error = float(np.abs(defect).max())
        first = error if first is None else first
        if not 1e-13 < error < 10.0:
            break
        tall = tall - 0.5 * (tall @ defect)
    return (tall if tall.shape == point.shape else tall.T), float(first or 0.0)


class Judge:
    """Watches a run: called with iterates, says when the minimum is reached.

    Attributes:
      steps: taken until the latest iterate.
      least: smallest excess seen on the manifold.
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

    def __call__(self, point: np.ndarray, step: int | None = None) -> bool:
        """Look at an iterate; True ends the run: reached, or out of time.

        Args:
          point: the iterate.
          step: its number; default: one after the latest.
        """
        if self._left is not None:
            self.elapsed += time.perf_counter() - self._left
        self.steps = self.steps + 1 if step is None else step
        value, error = self.problem.excess(point, near=_NEAR)
        near = not error > LARGEST_ERROR
        if near:
            self.least = min(self.least, value)
        self.reached = bool(near and abs(value) <= TARGET)
        self._left = time.perf_counter()
        return self.reached or self.elapsed > self._limit or not np.isfinite(value)
