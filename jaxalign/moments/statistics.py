# SPDX-License-Identifier: Apache-2.0
"""Centred second moments of paired rows: the statistics every closed form needs.

They summarise any number of rows on the way to a map. `update` and `passes` fill
it, `merging` and `reduce` combine it. All sums are of CENTRED products, merged pairwise
(Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
variances", 1979): real embeddings sit in a cone whose mean has norm 0.5 to 0.9, and
subtracting ``n * mean * mean`` at the end would cancel.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxalign.array_types import Array
from jaxalign.errors import ArgumentError, check_count
from jaxalign.pytrees import pytree_dataclass

MAX_ROWS = 2**31 - 1


@pytree_dataclass
class Moments:
    """Centred moments of paired source and target rows; leading axes are groups.

    Attributes:
      count: sum of the weights, shape ``(*g)``; the number of anchors if unweighted.
      rows: rows whose weight is not 0, shape ``(*g)``, int32; it bounds the rank, and
        stays at 2**31 - 1 once it is there.
      source_mean: shape ``(*g, d_source)``.
      target_mean: shape ``(*g, d_target)``.
      cross_covariance: sum of ``target_c.T @ source_c``, ``(*g, d_target, d_source)``.
      source_energy: sum of centred squared norms, ``(*g)``.
      target_energy: the same for the target.
      source_gram: sum of ``source_c.T @ source_c``, or None if not asked for.
      target_gram: sum of ``target_c.T @ target_c``, or None if not asked for.
    """

    count: Float[Array, "*g"]
    rows: Int[Array, "*g"]
    source_mean: Float[Array, "*g d_source"]
    target_mean: Float[Array, "*g d_target"]
    cross_covariance: Float[Array, "*g d_target d_source"]
    source_energy: Float[Array, "*g"]
    target_energy: Float[Array, "*g"]
    source_gram: Float[Array, "*g d_source d_source"] | None = None
    target_gram: Float[Array, "*g d_target d_target"] | None = None

    @property
    def d_source(self) -> int:
        """Width of the source rows."""
        return self.source_mean.shape[-1]

    @property
    def d_target(self) -> int:
        """Width of the target rows."""
        return self.target_mean.shape[-1]

    @property
    def groups(self) -> tuple[int, ...]:
        """Sizes of the leading axes, () without groups."""
        return self.count.shape

    @property
    def memory_bytes(self) -> int:
        """Bytes of all arrays together."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self))


def init_moments(
    d_source: int,
    d_target: int,
    *,
    groups: int | tuple[int, ...] | None = None,
    grams: bool = False,
) -> Moments:
    """Make the moments of no rows at all, the neutral element of merging.

    Args:
      d_source: width of the source rows, at least 1.
      d_target: width of the target rows, at least 1.
      groups: static; how many groups (classes, data sets, model pairs) to keep apart,
        or the shape of several leading axes. None: one accumulator without leading
        axes.
      grams: static; also keep both Gram matrices, which least squares needs, and
        Procrustes too where ``d_source > d_target``.

    Returns:
      Zeros in float32, or in float64 when x64 is enabled.

    Raises:
      ValueError: if a width or a number of groups is below 1.

    Notes:
      Memory is groups x d_source x d_target x 4 bytes, with Grams about three times
      that (`memory_bytes`): 100 groups of d = 512 take 105 MB, or 315 MB.

    >>> init_moments(3, 2).cross_covariance.shape
    (2, 3)
    >>> init_moments(3, 2, groups=5).cross_covariance.shape
    (5, 2, 3)
    """
    if groups is None:
        leading = ()
    else:
        leading = (groups,) if isinstance(groups, int) else tuple(groups)
    columns = "pass the number of columns of the rows"
    check_count("init_moments", "d_source", d_source, remedy=columns)
    check_count("init_moments", "d_target", d_target, remedy=columns)
    for size in leading:
        check_count("init_moments", "groups", size)
    dtype = jax.dtypes.canonicalize_dtype(float)

    def zeros(*shape):
        return jnp.zeros((*leading, *shape), dtype)

    return Moments(
        count=zeros(),
        rows=jnp.zeros(leading, jnp.int32),
        source_mean=zeros(d_source),
        target_mean=zeros(d_target),
        cross_covariance=zeros(d_target, d_source),
        source_energy=zeros(),
        target_energy=zeros(),
        source_gram=zeros(d_source, d_source) if grams else None,
        target_gram=zeros(d_target, d_target) if grams else None,
    )


def add_rows(left: Int[Array, "*g"], right: Int[Array, "*g"]) -> Int[Array, "*g"]:
    """Add numbers of rows that stay at `MAX_ROWS` instead of wrapping around."""
    room = MAX_ROWS - left
    return jnp.where(right > room, jnp.full_like(left, MAX_ROWS), left + right)


def expand_to(numbers: Array, leaf: Array) -> Array:
    """Append axes to one number a group, ``(*g)``, to broadcast it with a leaf."""
    return numbers.reshape(numbers.shape + (1,) * (leaf.ndim - numbers.ndim))


def check_moments(
    call: str,
    moments: object,
    *,
    remedy: str = "make them by `init_moments` and `update_moments`",
) -> Moments:
    """Return `moments`; raise `ArgumentError` unless they are `Moments`."""
    if not isinstance(moments, Moments):
        shape = getattr(moments, "shape", None)
        got = type(moments).__name__ if shape is None else f"an array of shape {shape}"
        raise ArgumentError(f"{call}(moments=...)", "Moments", got, remedy)
    return moments
