# SPDX-License-Identifier: Apache-2.0
"""Planted data sets of which the population is known, as moments of blocks."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

import jaxalign as ja
from tests.cases import orthonormal


@dataclasses.dataclass(frozen=True)
class Population:
    """Rows x = mean + axes * z and y = mean + Q (x - mean) + noise, z normal.

    The noise is isotropic in the target, of squared norm `noise`**2 in all; the source
    has squared norm 1 about its mean. The best map of the population is Q.
    """

    d: int
    noise: float
    decay: float = 0.0
    d_target: int | None = None

    @property
    def width(self):
        return self.d if self.d_target is None else self.d_target

    @property
    def rotation(self):
        return orthonormal(np.random.default_rng(7), self.width, self.d)

    @property
    def deviations(self):
        found = np.arange(1.0, self.d + 1) ** -self.decay
        return found / np.linalg.norm(found)

    @property
    def agreement(self):
        return 1.0 / np.sqrt(1.0 + self.noise**2)

    def relative_residual(self, scale):
        """Of the best map: by "none" the noise alone, by "energy" twice the angle."""
        if scale == "energy":
            return 2.0 * (1.0 - self.agreement)
        return self.noise**2 / (1.0 + self.noise**2)

    def mean_square_residual(self, scale):
        return self.relative_residual(scale) * (1.0 + self.noise**2)

    def draw(self, seed, n):
        """Draw (n, d) and (n, d_target) rows, in cones, by NumPy."""
        rng = np.random.default_rng(seed)
        centred = rng.standard_normal((n, self.d)) * self.deviations
        errors = rng.standard_normal((n, self.width)) / np.sqrt(self.width)
        target = centred @ self.rotation.T + self.noise * errors
        return (
            (centred + 0.9 / np.sqrt(self.d)).astype(np.float32),
            (target - 0.5 / np.sqrt(self.width)).astype(np.float32),
        )

    def rows(self, key, n):
        """Draw the like by JAX, within a program."""
        one, two = jax.random.split(key)
        centred = jax.random.normal(one, (n, self.d)) * self.deviations[None, :]
        errors = jax.random.normal(two, (n, self.width)) / np.sqrt(self.width)
        target = jnp.matmul(centred, self.rotation.T, precision="highest")
        target = target + self.noise * errors
        return (
            (centred + 0.9 / np.sqrt(self.d)).astype(np.float32),
            (target - 0.5 / np.sqrt(self.width)).astype(np.float32),
        )

    def blocks(self, key, n, groups):
        """Draw rows and deal them to blocks; the moments of each."""
        source, target = self.rows(key, n)
        group = jax.random.randint(jax.random.fold_in(key, 1), (n,), 0, groups)
        return moments_of_blocks(source, target, group, groups)

    def new_error(self, matrix, source_mean, target_mean):
        """Relative error of a map on the population itself, means and all."""
        matrix = np.asarray(matrix, np.float64)
        apart = (matrix - self.rotation) * self.deviations
        own = np.full(self.d, 0.9 / np.sqrt(self.d))
        other = np.full(self.width, -0.5 / np.sqrt(self.width))
        miss = other - target_mean - matrix @ (own - source_mean)
        spread = 1.0 + self.noise**2 + np.sum((other - target_mean) ** 2)
        return (np.sum(apart**2) + self.noise**2 + np.sum(miss**2)) / spread


@functools.partial(jax.jit, static_argnames=("groups", "grams"))
def moments_of_blocks(source, target, group, groups, weights=None, grams=False):
    """Moments of blocks, under jit and vmap as well."""
    empty = ja.moments.init_moments(
        source.shape[1], target.shape[1], groups=groups, grams=grams
    )
    return ja.moments.update_moments(
        empty, source, target, group=group, weights=weights
    )


def fit_by_rows(source, target, weights, scale):
    """Fit weighted rows by SciPy in float64: rotation, metrics, and the map of rows."""
    x, y = (np.asarray(side, np.float64) for side in (source, target))
    root = np.sqrt(weights / weights.sum())[:, None]
    x_mean, y_mean = (np.sum(root**2 * side, axis=0) for side in (x, y))
    x_c, y_c = root * (x - x_mean), root * (y - y_mean)
    turn, trace = scipy.linalg.orthogonal_procrustes(x_c, y_c)
    factor = {
        "none": 1.0,
        "least_squares": trace / np.sum(x_c**2),
        "energy": np.sqrt(np.sum(y_c**2) / np.sum(x_c**2)),
    }[scale]
    return {
        "rotation": turn.T,
        "agreement": trace / np.sqrt(np.sum(x_c**2) * np.sum(y_c**2)),
        "relative_residual": np.sum((factor * x_c @ turn - y_c) ** 2) / np.sum(y_c**2),
        "mean_square_residual": np.sum((factor * x_c @ turn - y_c) ** 2),
        "map": lambda rows: factor * (rows - x_mean) @ turn + y_mean,
        "target_mean": y_mean,
    }
