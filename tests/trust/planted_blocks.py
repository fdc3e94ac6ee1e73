# SPDX-License-Identifier: Apache-2.0
"""Planted data sets of which the population is known, as moments of blocks."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

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

    @property
    def relative_residual(self):
        return self.noise**2 / (1.0 + self.noise**2)

    @property
    def mean_square_residual(self):
        return self.noise**2

    def rows(self, key, n):
        """Draw (n, d) and (n, d_target) rows, in cones."""
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

    def new_error(self, rotation, source_mean, target_mean):
        """Relative error of a map on the population itself, means and all."""
        apart = (np.asarray(rotation, np.float64) - self.rotation) * self.deviations
        own = np.full(self.d, 0.9 / np.sqrt(self.d))
        other = np.full(self.width, -0.5 / np.sqrt(self.width))
        miss = other - target_mean - np.asarray(rotation) @ (own - source_mean)
        spread = 1.0 + self.noise**2 + np.sum((other - target_mean) ** 2)
        return (np.sum(apart**2) + self.noise**2 + np.sum(miss**2)) / spread


@functools.partial(jax.jit, static_argnames=("groups", "grams"))
def moments_of_blocks(source, target, group, groups, weights=None, grams=False):
    """Moments of blocks, under jit and vmap as well."""
    empty = ja.init_moments(
        source.shape[1], target.shape[1], groups=groups, grams=grams
    )
    return ja.update_moments(empty, source, target, group=group, weights=weights)
