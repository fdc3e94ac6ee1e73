# SPDX-License-Identifier: Apache-2.0
r"""Ridge regression from the query's space to the index's space, whichever model asks.

With :math:`q` the side of the queries, :math:`W = C (S_q + l I)^{-1}` carries a query
to where index rows are, and the score is the cosine on the range of W. So a search of
target queries regresses on the source's side. With :math:`W = E s F^\top` queries are
encoded by :math:`s F^\top` and index rows by :math:`E^\top`.

Reference: Shigeto, Suzuki, Hara, Shimbo, Matsumoto, "Ridge regression, hubness, and
zero-shot learning", 2015, arXiv 1507.00825, which argues for the other direction.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxalign.errors import check_number, check_option
from jaxalign.families.scorer import Scorer, ScorerFamily, Side, cosine_scorer
from jaxalign.moments import Moments
from jaxalign.solve.covariances import (
    Covariances,
    add_ridge,
    covariances,
    smallest_of,
)
from jaxalign.solve.one_by_one import one_by_one
from jaxalign.solve.polar import thin_svd


@dataclasses.dataclass(frozen=True)
class TowardIndex(ScorerFamily):
    r"""Ridge regression of index rows on queries.

    Attributes:
      queries_are: the side of the queries, "source" or "target": one scorer serves one
        direction.
      strength: l relative to the mean eigenvalue of the queries' covariance, above 0.

    Notes:
      One Cholesky factor and one SVD, O(d^3) a batch entry.
    """

    name: ClassVar[str] = "toward_index"

    queries_are: Side = "source"
    strength: float = 0.1

    def __post_init__(self):
        check_option(
            "TowardIndex", "queries_are", self.queries_are, ("source", "target")
        )
        strength = check_number("TowardIndex", "strength", self.strength, above=0.0)
        object.__setattr__(self, "strength", strength)

    def solve(self, moments: Moments) -> Scorer:
        """Solve, batched over leading axes; the strength is data."""
        parts = covariances("TowardIndex.solve", moments)
        return _solve(parts, self.strength, queries_are=self.queries_are)

    def describe(self) -> str:
        """Say in a few words what the scorer is."""
        other = "target" if self.queries_are == "source" else "source"
        return f"ridge regression to the {other} rows, strength {self.strength:g}"


@functools.partial(jax.jit, static_argnames=("queries_are",))
def _solve(parts: Covariances, strength, *, queries_are: Side) -> Scorer:
    """Solve one entry after the other."""
    return one_by_one(
        lambda part: _solve_one(part, strength, queries_are=queries_are),
        (parts,),
        parts.rows.shape,
    )


def _solve_one(parts: Covariances, strength, *, queries_are: Side) -> Scorer:
    """Regress, and split the matrix into its directions on either side."""
    asks = parts.source if queries_are == "source" else parts.target
    cross = parts.cross
    if queries_are == "target":
        cross = jnp.swapaxes(cross, -1, -2)
    mean = jnp.trace(asks, axis1=-2, axis2=-1) / asks.shape[-1]
    ridge = strength * mean
    lower = jnp.linalg.cholesky(add_ridge(asks, ridge))
    # W' = (S_q + l)^-1 C', (..., d_query, d_index)
    solved = jax.scipy.linalg.cho_solve((lower, True), jnp.swapaxes(cross, -1, -2))
    e, s, ft = thin_svd(jnp.swapaxes(solved, -1, -2))
    rank = parts.rank(s, jnp.square(smallest_of(lower)))
    found = cosine_scorer(ft.T * s[None, :], e, rank, parts.rows, queries_are="source")
    return found if queries_are == "source" else found.reversed()
