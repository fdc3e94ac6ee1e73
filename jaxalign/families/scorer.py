# SPDX-License-Identifier: Apache-2.0
r"""What a scorer is: one matrix for either side, a norm, and a penalty an index row.

A map of rows keeps distances. For searches alone more can be had: both sides are
brought to a common width k, and the score of a query row u with an index row v is

.. math:: u^\top v - \tfrac12 \sum_i r_i v_i^2

The last term is one number an index row. So any index for inner products holds scored
rows, k numbers and one more each, and nothing but a product is left for a query.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.families.family import status_of
from jaxalign.float_rows import wide_dtype
from jaxalign.moments import Moments
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass, static_field
from jaxalign.unit_rows import unit_rows

Side = Literal["source", "target"]
"""Of which model rows are."""


@pytree_dataclass
class Scorer:
    r"""Matrices and a penalty, fitted once for both directions: a PyTree.

    Attributes:
      source: of centred source rows, ``(*batch, k, d_source)``; k is the smaller width.
        Rows beyond `rank` are 0.
      target: of centred target rows, ``(*batch, k, d_target)``.
      source_norm: that encoded source rows are brought to, ``(*batch)``; None leaves
        them as they come.
      target_norm: the same for target rows.
      penalty: :math:`r_i`, ``(*batch, k)``.
      rank: directions that count, ``(*batch)``, int32.
      status: `Status` codes, ``(*batch)``.
      clipped: directions whose correlation is 1 up to rounding, ``(*batch)``, int32.
      queries_are: static; the side of queries that it is made for, None for both.
    """

    source: Float[Array, "*batch k d_source"]
    target: Float[Array, "*batch k d_target"]
    source_norm: Float[Array, "*batch"] | None
    target_norm: Float[Array, "*batch"] | None
    penalty: Float[Array, "*batch k"]
    rank: Int[Array, "*batch"]
    status: Int[Array, "*batch"]
    clipped: Int[Array, "*batch"]
    queries_are: Side | None = static_field(default=None)

    @property
    def width(self) -> int:
        """Width of encoded rows."""
        return self.penalty.shape[-1]

    def reversed(self) -> "Scorer":
        """The same scorer with source and target exchanged."""
        other: dict[Side, Side] = {"source": "target", "target": "source"}
        return dataclasses.replace(
            self,
            source=self.target,
            target=self.source,
            source_norm=self.target_norm,
            target_norm=self.source_norm,
            queries_are=None if self.queries_are is None else other[self.queries_are],
        )

    def cut(self, rank: int) -> "Scorer":
        """Without the directions beyond `rank`, a number of the host."""
        return dataclasses.replace(
            self,
            source=self.source[..., :rank, :],
            target=self.target[..., :rank, :],
            penalty=self.penalty[..., :rank],
        )


class ScorerFamily:
    """Base of the families of scorers: frozen objects with their own `solve`.

    Attributes:
      name: in a map's card and in tables.
      queries_are: the side of queries that it is made for, None for both.
    """

    name: ClassVar[str]
    queries_are: Side | None = None

    def solve(self, moments: Moments) -> Scorer:
        """Solve from moments with Grams, batched over leading axes."""
        raise ArgumentError(
            f"{type(self).__name__}.solve", "a class that defines `solve`"
        )

    def describe(self) -> str:
        """Say in a few words what the scorer is."""
        return self.name.replace("_", " ")

    def to_json(self) -> dict[str, Any]:
        """Give the family as JSON values, for a map's card."""
        return {"name": self.name, **dataclasses.asdict(self)}  # pyright: ignore[reportArgumentType]


@jax.jit
def encode_rows(
    matrix: Float[Array, "k d"],
    mean: Float[Array, " d"],
    norm: Float[Array, ""] | None,
    rows: Float[ArrayLike, "n d"],
) -> Float[Array, "n k"]:
    """Centre rows of one side, bring them to the common width, and to their norm."""
    dtype = wide_dtype(matrix.dtype)
    centred = jnp.asarray(rows).astype(dtype) - mean.astype(dtype)[None, :]
    # (n, d) @ (d, k)
    encoded = product(centred, matrix.astype(dtype).T)
    return encoded if norm is None else norm.astype(dtype) * unit_rows(encoded)


@jax.jit
def penalties_of(
    encoded: Float[Array, "n k"], penalty: Float[Array, " k"]
) -> Float[Array, " n"]:
    r"""Half the penalty, :math:`\frac12 \sum_i r_i v_i^2`, of encoded index rows."""
    return 0.5 * jnp.sum(jnp.square(encoded) * penalty[None, :], axis=1)


def keep_leading(
    rank: Int[Array, "*batch"], columns: Float[Array, "*batch d k"]
) -> Float[Array, "*batch d k"]:
    """Set the columns beyond `rank` to 0."""
    places = jax.lax.broadcasted_iota(jnp.int32, columns.shape, columns.ndim - 1)
    return jnp.where(places < rank[..., None, None], columns, jnp.zeros_like(columns))


def cosine_scorer(
    source: Float[Array, "d_source k"],
    target: Float[Array, "d_target k"],
    rank: Int[Array, ""],
    rows: Int[Array, ""],
    *,
    queries_are: Side | None = None,
) -> Scorer:
    """Make a scorer by cosines, without a penalty.

    Args:
      source: columns of the source's matrix.
      target: columns of the target's matrix.
      rank: columns beyond it become 0.
      rows: number of anchors.
      queries_are: see `Scorer`.
    """
    source, target = keep_leading(rank, source), keep_leading(rank, target)
    one = jnp.ones((), source.dtype)
    return Scorer(
        source=source.T,
        target=target.T,
        source_norm=one,
        target_norm=one,
        penalty=jnp.zeros(source.shape[-1], source.dtype),
        rank=rank,
        status=status_of(all_finite(source, target), rows),
        clipped=jnp.zeros_like(rank),
        queries_are=queries_are,
    )


def all_finite(*matrices: Float[Array, "..."]) -> Bool[Array, ""]:
    """Whether no entry is NaN or infinite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(one)) for one in matrices]))


def check_side(call: str, scorer: Scorer, queries_are: Side) -> None:
    """Raise for a scorer that is made for queries of the other side."""
    if scorer.queries_are not in (None, queries_are):
        raise ArgumentError(
            call,
            f"a scorer for queries of the {queries_are} model",
            f"one made for those of the {scorer.queries_are} model",
            f"fit it with TowardIndex(queries_are={queries_are!r}), or pass "
            "use=Use(offsets=0), which searches by the map of rows",
        )
