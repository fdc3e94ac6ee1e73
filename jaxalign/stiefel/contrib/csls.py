# SPDX-License-Identifier: Apache-2.0
"""Relaxed CSLS as an objective: near the partner, and far from hubs.

The criterion that retrieval with hub correction reads, made a loss: a map is paid for
bringing a row near its partner only as far as it does not bring it near everything.
Reference: Joulin, Bojanowski, Mikolov, Jegou, Grave, "Loss in translation: learning
bilingual word mapping with a retrieval criterion", 2018, arXiv 1804.07745.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float, Shaped

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError, check_count
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass, static_field
from jaxalign.stiefel.objectives.rows import (
    Centring,
    PreparedRows,
    StartsFromPairs,
    aligned_rows,
    prepare_rows,
    unit_rows,
)

_HIGHEST = jax.lax.Precision.HIGHEST


@pytree_dataclass
class CslsObjective(StartsFromPairs):
    """Hub-corrected cosine loss of pairs; make it by its factory.

    Attributes:
      rows: prepared.
      neighbours: static; k.
      block_size: static; rows scored at a time.
    """

    rows: PreparedRows
    neighbours: int = static_field()
    block_size: int = static_field()

    def __call__(
        self, point: Float[ArrayLike, "*batch d_target d_source"]
    ) -> Float[Array, "..."]:
        """Value at each point, shape: the leading axes of point and data, broadcast."""
        one = functools.partial(
            _one, neighbours=self.neighbours, block_size=self.block_size
        )
        return self.over_rows("csls_objective", one, point, ",(n)", self.rows.kept)


def csls_objective(
    source: Float[ArrayLike, "*g n d_source"],
    target: Float[ArrayLike, "*g n d_target"],
    *,
    neighbours: int = 10,
    weights: Shaped[ArrayLike, "... n"] | None = None,
    source_mean: Float[ArrayLike, "... d_source"] | None = None,
    target_mean: Float[ArrayLike, "... d_target"] | None = None,
    scale: float | Float[ArrayLike, "..."] = 1.0,
    centring: Centring = "map",
    block_size: int = 1024,
) -> CslsObjective:
    r"""Make the relaxed CSLS objective of paired rows.

    With unit rows :math:`a_i` (aligned, from ``source``) and :math:`z_i` (of
    ``target``, both as in `cosine_objective`), and :math:`N_k(u)` the k =
    ``neighbours`` rows of the other side nearest to u,

    .. math::

        f(Q) = \sum_i \frac{w_i}{\sum w} \Big( -2 \langle a_i, z_i \rangle
             + \frac1k \sum_{z \in N_k(a_i)} \langle a_i, z \rangle
             + \frac1k \sum_{a \in N_k(z_i)} \langle a, z_i \rangle \Big).

    Args:
      source: ``(..., n, d_source)``, of any norm; leading axes are problems.
      target: ``(..., n, d_target)``; row i belongs to row i of `source`.
      neighbours: static; k, between 1 and n. The partner may be one of them. Where
        fewer rows count than that, all of them are.
      weights: ``(n,)`` or ``(..., n)``, not negative, of the rows in the mean. 0 is
        padding, which may hold anything, NaN too, and is nobody's neighbour.
      source_mean: see `cosine_objective`.
      target_mean: see `cosine_objective`.
      scale: see `cosine_objective`.
      centring: static; see `cosine_objective`.
      block_size: static; rows scored at a time.

    Returns:
      The objective, between -4 and 4. With one neighbour it is 0 where partners are
      nearest, and else above.

    Raises:
      ArgumentError: if shapes do not fit, or an option is out of range.

    Notes:
      O(n d_source d_target + n^2 d_target) an evaluation, all scores by blocks; the
      gradient costs O(n d_source d_target) more: who is near whom is found without
      derivatives, and given that, f is a sum of n inner products. It has kinks where
      neighbours change. Memory O(block_size * (n + k d_target) + n d_target). For
      rows split over devices pass a `block_size` of at least n.

    References:
      Joulin, Bojanowski, Mikolov, Jegou, Grave, "Loss in translation: learning
      bilingual word mapping with a retrieval criterion", 2018, arXiv 1804.07745.
      Lample, Conneau, Ranzato, Denoyer, Jegou, "Word translation without parallel
      data", 2018, arXiv 1710.04087 (CSLS).

    >>> rows = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> objective = csls_objective(rows, rows, neighbours=2)
    >>> value = jax.jit(lambda point: objective(point))(jnp.eye(2))
    >>> round(float(value), 3)  # -2 + (1 + 0) / 2 + (1 + 0) / 2
    -1.0
    """
    call = "csls_objective"
    rows = prepare_rows(
        call,
        source,
        target,
        weights=weights,
        source_mean=source_mean,
        target_mean=target_mean,
        scale=scale,
        centring=centring,
        unit=True,
    )
    n = source.shape[-2]
    if not 1 <= neighbours <= n:
        raise ArgumentError(
            f"{call}(neighbours={neighbours})",
            f"1 to {n}, the number of rows",
            remedy="pass more rows, or fewer neighbours",
        )
    check_count(call, "block_size", block_size)
    return CslsObjective(
        rows=rows,
        neighbours=neighbours,
        block_size=min(block_size, n),
    )


def _one(point, source, target, added, share, kept, *, neighbours, block_size):
    """Value of one problem, linear in the aligned rows once neighbours are known."""
    aligned = unit_rows(aligned_rows(point, source, added))
    still = jax.lax.stop_gradient(aligned)

    def collect(sums, block):
        """Means of the targets near a block of aligned rows."""
        near, part = _nearest(block[0], target, kept, neighbours)
        # (b, k, d_target), a block at a time
        means = jnp.einsum("bk,bkt->bt", part, target[near], precision=_HIGHEST)
        return sums, means

    def spread(sums, block):
        """Give each target of a block, with its weight, to the aligned rows near it."""
        rows, own = block
        near, part = _nearest(rows, still, kept, neighbours)
        pushed = (own[:, None] * part)[..., None] * rows[:, None, :]
        return sums.at[near].add(pushed), None

    n = source.shape[0]
    zeros = jnp.zeros_like(target)
    _, near = jax.lax.scan(collect, (), _blocks((still,), block_size))
    near = near.reshape(-1, near.shape[-1])[:n]
    reached, _ = jax.lax.scan(spread, zeros, _blocks((target, share), block_size))
    force = share[:, None] * (near - 2.0 * target) + reached
    return jnp.sum(aligned * force)


def _nearest(rows, others, kept, neighbours):
    """Numbers of the nearest rows of the other side, and the part of each in a mean."""
    # (b, d) @ (d, n)
    scores = product(rows, jax.lax.stop_gradient(others).T)
    scores = jnp.where(kept[None, :], jax.lax.stop_gradient(scores), -jnp.inf)
    _, near = jax.lax.top_k(scores, neighbours)
    counted = kept[near].astype(rows.dtype)
    number = jnp.sum(counted, axis=1, keepdims=True)
    return near, counted / jnp.maximum(number, jnp.ones_like(number))


def _blocks(sides, block_size):
    """Cut rows into blocks, the last padded by zeros."""

    def cut(side):
        short = -side.shape[0] % block_size
        whole = jnp.pad(side, [(0, short)] + [(0, 0)] * (side.ndim - 1))
        return whole.reshape(-1, block_size, *side.shape[1:])

    return tuple(cut(side) for side in sides)
