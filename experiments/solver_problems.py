# SPDX-License-Identifier: Apache-2.0
"""Procrustes problems that solvers are compared on, and the judge of their points."""

import dataclasses
import functools
import math

import jax
import numpy as np
from jaxtyping import Float

import jaxalign as ja

# Newton-Schulz steps to the nearest orthonormal matrix: from 0.5 off to rounding.
_MOST_CORRECTIONS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Moments of anchors, and what is known of their optimum.

    Attributes:
      name: a few characters.
      about: in words.
      moments: of the anchors, of one modality.
      steps: that optimisers may take.
      planted: the rotation behind the anchors, if it is known.
      seed: of the start.
    """

    name: str
    about: str
    moments: ja.Moments
    steps: int
    planted: np.ndarray | None = None
    seed: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Of a rotation."""
        return self.moments.d_target, self.moments.d_source

    @property
    def tuning_steps(self) -> int:
        """Of the short runs that choose a learning rate."""
        return max(2, min(self.steps // 4, 100))

    @functools.cached_property
    def objective(self):
        """What is minimised, ``mean |Q x - y|^2`` up to what Q does not change."""
        return ja.stiefel.procrustes_objective(self.moments)

    @functools.cached_property
    def start(self) -> jax.Array:
        """A random point, in the optimum's component where there are two."""
        sign = None
        if self.shape[0] == self.shape[1]:
            sign = 1 if np.linalg.det(self._svd[3]) > 0 else -1
        return ja.stiefel.random_point(
            jax.random.key(self.seed), self.shape, determinant=sign
        )

    @property
    def unit_rate(self) -> float:
        """One over the largest singular value of the gradient ``-2 C / n``."""
        return float(self.moments.count) / (2.0 * self._svd[1][0])

    @property
    def condition(self) -> float:
        """Of the cross-covariance, as sampled; infinite if rounding is reached."""
        values = self._svd[1]
        small = values[-1] <= values[0] * np.finfo(np.float32).eps
        return math.inf if small else float(values[0] / values[-1])

    def excess(self, point: Float[np.ndarray, "d_target d_source"]) -> tuple:
        """Return ``(f - f*) / (f0 - f*)``, and the largest entry of ``|Q'Q - I|``.

        In float64, at the orthonormal matrix nearest to the point, so that none gains
        by leaving the manifold, where values below the optimum are to be had.
        """
        cross, _, best, _ = self._svd
        nearest, drift = _orthonormal(np.asarray(point, np.float64))
        first = float((cross * np.asarray(self.start, np.float64)).sum())
        return (best - float((cross * nearest).sum())) / (best - first), drift

    def describe(self) -> str:
        """Give size and condition number, in words."""
        rows, (height, width) = int(self.moments.rows), self.shape
        number = self.condition
        words = f"{number:,.0f}" if number < 1e6 else f"{number:.1e}"
        if not math.isfinite(number):
            words = "beyond float32"
        return (
            f"{rows:,} anchors, rotation {height} x {width}, condition number of the "
            f"cross-covariance {words}."
        )

    def describe_point(self, point: np.ndarray) -> dict[str, str]:
        """How far a point is from the planted rotation, if there is one."""
        if self.planted is None:
            return {}
        return {"from the planted Q": f"{self.distance(point):.1e}"}

    def distance(self, point: np.ndarray) -> float:
        """Root mean square, over columns, of the distance to the planted rotation."""
        if self.planted is None:
            return math.nan
        return float(
            np.linalg.norm(np.asarray(point, np.float64) - self.planted)
            / np.sqrt(min(self.shape))
        )

    @functools.cached_property
    def _svd(self):
        """The cross-covariance, singular values, their sum, the optimum: float64."""
        cross = np.asarray(self.moments.cross_covariance, np.float64)
        u, values, vt = np.linalg.svd(cross, full_matrices=False)
        return cross, values, float(values.sum()), u @ vt


@dataclasses.dataclass(frozen=True)
class Planted:
    """Settings of a planted problem.

    Attributes:
      name: a few characters.
      about: what is special, in words.
      width: of both sides.
      anchors: how many.
      condition: of the covariance that rows are drawn from.
      noise: as of `ja.planted_pairs`.
      reflect: determinant -1.
      steps: that optimisers may take.
    """

    name: str
    about: str
    width: int = 64
    anchors: int = 4096
    condition: float = 10.0
    noise: float = 0.1
    reflect: bool = False
    steps: int = 400

    def draw(self, seed: int) -> Problem:
        """Draw anchors; their moments are all that is kept."""
        planted = ja.planted_pairs(
            jax.random.key(seed),
            self.anchors,
            self.width,
            noise=self.noise,
            # Variances, the square of deviations, fall to 1 / condition.
            decay=0.5 * math.log(self.condition) / math.log(self.width),
            reflect=self.reflect,
            modalities=("image",),
        )
        moments = ja.update_moments(
            ja.init_moments(self.width, self.width), *planted.pairs["image"]
        )
        return Problem(
            self.name,
            self.about,
            moments,
            self.steps,
            np.asarray(planted.rotation, np.float64),
            seed,
        )


PLANTED = (
    Planted("easy", "The case that the others differ from in one thing"),
    Planted(
        "cond 1e3",
        "Condition number 1,000 instead of 10",
        condition=1000.0,
        steps=2000,
    ),
    Planted("noise 1", "Noise as large as the signal", noise=1.0),
    Planted("96 rows", "Few anchors: 96 instead of 4,096", anchors=96, steps=2000),
    Planted("det -1", "A planted rotation of determinant -1", reflect=True),
    Planted("width 192", "Width 192 instead of 64", width=192),
)


def tiny(case: Planted) -> Planted:
    """The same case at toy size."""
    return dataclasses.replace(
        case,
        width=8 if case.width == 64 else 12,
        anchors=max(24, case.anchors // 64),
        steps=40,
    )


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
