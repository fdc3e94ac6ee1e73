# SPDX-License-Identifier: Apache-2.0
r"""The half-whitened scorer: between a rotation, which whitens nothing, and all of it.

.. math:: (S_y + l_y)^{-1/4} C (S_x + l_x)^{-1/4} = V s U^\top

Rows are compared by their cosine in the coordinates
:math:`s^{1/2} U^\top (S_x + l_x)^{-1/4} (x - \bar x)`, and likewise on the other side.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxalign.errors import check_number
from jaxalign.families.family import ridge_words
from jaxalign.families.scorer import Scorer, ScorerFamily, cosine_scorer
from jaxalign.moments import Moments
from jaxalign.precise import product
from jaxalign.solve.covariances import Covariances, covariances, ridged_power
from jaxalign.solve.one_by_one import one_by_one
from jaxalign.solve.polar import thin_svd


@dataclasses.dataclass(frozen=True)
class Half(ScorerFamily):
    r"""Cosine in half-whitened coordinates.

    Attributes:
      ridge: factor of the ridges tr(S) / n, above 0.

    Notes:
      Two eigendecompositions and an SVD, O(d^3) a batch entry.
    """

    name: ClassVar[str] = "half"

    ridge: float = 1.0

    def __post_init__(self):
        ridge = check_number("Half", "ridge", self.ridge, above=0.0)
        object.__setattr__(self, "ridge", ridge)

    def solve(self, moments: Moments) -> Scorer:
        """Solve, batched over leading axes; the ridge is data."""
        return _solve(covariances("Half.solve", moments, ridge=self.ridge))

    def describe(self) -> str:
        """Say in a few words what the scorer is."""
        return "half-whitened cosine" + ridge_words(self.ridge)


@jax.jit
def _solve(parts: Covariances) -> Scorer:
    """Solve one entry after the other."""
    return one_by_one(_solve_one, (parts,), parts.rows.shape)


def _solve_one(parts: Covariances) -> Scorer:
    """Whiten by the fourth root, and weigh directions by the root of what is shared."""
    of_source, least_x = ridged_power(parts.source, parts.source_ridge, -0.25)
    of_target, least_y = ridged_power(parts.target, parts.target_ridge, -0.25)
    v, s, ut = thin_svd(product(product(of_target, parts.cross), of_source))
    rank = parts.rank(s, least_x * least_y)
    root = jnp.sqrt(s)[None, :]
    # (d, d) @ (d, k)
    source = product(of_source, ut.T * root)
    target = product(of_target, v * root)
    return cosine_scorer(source, target, rank, parts.rows)
