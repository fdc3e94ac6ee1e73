# SPDX-License-Identifier: Apache-2.0
r"""Cosines of paired rows: how well two sets of embeddings lie on each other.

The evaluate step of the data flow. A mean cosine alone misleads: two collapsed sets
(all rows alike) score 1. So it is read beside the cosine of mismatched pairs, which a
collapse drives up as well, and the centred cosine, which it drives to 0.

References:
  Gupta, Kansal, Jegelka, Isola, Garg, "Canonicalizing Multimodal Contrastive
  Representation Learning", arXiv 2602.17584 (mean cosine of pairs before and after).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxalign.array_types import ArrayLike

_HIGHEST = jax.lax.Precision.HIGHEST


def unit_rows(rows: Float[ArrayLike, "*batch d"]) -> Float[Array, "*batch d"]:
    """Divide every row by its Euclidean norm, in float32 or better.

    Args:
      rows: ``(..., d)``, any floating dtype.

    Returns:
      ``(..., d)`` unit rows; a zero row stays zero, so its cosines are 0.
    """
    array = jnp.asarray(rows)
    array = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    norm = jnp.linalg.norm(array, axis=-1, keepdims=True)
    return array / jnp.maximum(norm, jnp.finfo(array.dtype).tiny)


@jax.jit
def pair_cosines(
    left: Float[ArrayLike, "n d"], right: Float[ArrayLike, "n d"]
) -> Float[Array, " n"]:
    r"""Cosine of each pair of rows, :math:`\cos(x_i, y_i)`.

    Args:
      left: :math:`x`, ``(n, d)``, rows of any norm.
      right: :math:`y`, ``(n, d)``; row ``i`` belongs to row ``i`` of ``left``.

    Returns:
      ``(n,)`` cosines; their mean is `mean_cosine`.
    """
    _check_pairs("pair_cosines", left, right)
    # Rounding may step past 1 by an eps or two.
    return jnp.clip(jnp.sum(unit_rows(left) * unit_rows(right), axis=-1), -1.0, 1.0)


@jax.jit
def mean_cosine(
    left: Float[ArrayLike, "n d"], right: Float[ArrayLike, "n d"]
) -> Float[Array, ""]:
    r"""Mean cosine of paired rows, :math:`\frac1n \sum_i \cos(x_i, y_i)`.

    Args:
      left: :math:`x`, ``(n, d)``, rows of any norm.
      right: :math:`y`, ``(n, d)``; row ``i`` belongs to row ``i`` of ``left``.

    Returns:
      A scalar in ``[-1, 1]``.

    >>> rows = jnp.eye(2, 3)
    >>> mean_cosine(rows, 5.0 * rows).item()
    1.0
    """
    return jnp.mean(pair_cosines(left, right))


@jax.jit
def mismatched_cosine(
    left: Float[ArrayLike, "n d"], right: Float[ArrayLike, "n d"]
) -> Float[Array, ""]:
    r"""Mean cosine over all pairs that do not belong together, ``i != j``.

    With unit rows the mean is :math:`(\langle \sum_i x_i, \sum_j y_j \rangle -
    \sum_i \langle x_i, y_i \rangle) / (n (n - 1))`: O(n d), no n x n matrix.

    Args:
      left: :math:`x`, ``(n, d)``, rows of any norm, ``n`` at least 2.
      right: :math:`y`, ``(n, d)``; row ``i`` belongs to row ``i`` of ``left``.

    Returns:
      A scalar in ``[-1, 1]``: near `mean_cosine` if the sets have collapsed.

    Raises:
      ValueError: if there are fewer than two pairs.
    """
    _check_pairs("mismatched_cosine", left, right)
    n = left.shape[0]
    if n < 2:
        raise ValueError(
            f"`mismatched_cosine(left=...)` expected at least 2 rows, got {n}; one "
            "pair has no mismatched partner."
        )
    x, y = unit_rows(left), unit_rows(right)
    all_pairs = jnp.vdot(jnp.sum(x, axis=0), jnp.sum(y, axis=0), precision=_HIGHEST)
    return (all_pairs - jnp.sum(x * y)) / (n * (n - 1))


@jax.jit
def centred_pair_cosines(
    left: Float[ArrayLike, "n d"],
    right: Float[ArrayLike, "n d"],
    *,
    left_mean: Float[ArrayLike, " d"] | None = None,
    right_mean: Float[ArrayLike, " d"] | None = None,
) -> Float[Array, " n"]:
    """Cosine of each pair after taking a mean off both sides.

    Rows are normalised first, as a cosine index sees them, then centred.

    Args:
      left: ``(n, d)``, rows of any norm.
      right: ``(n, d)``; row ``i`` belongs to row ``i`` of ``left``.
      left_mean: ``(d,)`` mean of unit rows; default the mean of ``left``'s own.
      right_mean: ``(d,)`` likewise for ``right``.

    Returns:
      ``(n,)`` cosines; their mean is `centred_cosine`.
    """
    _check_pairs("centred_pair_cosines", left, right)
    x, y = unit_rows(left), unit_rows(right)
    x_mean = jnp.mean(x, axis=0) if left_mean is None else jnp.asarray(left_mean)
    y_mean = jnp.mean(y, axis=0) if right_mean is None else jnp.asarray(right_mean)
    x, y = x - x_mean[None, :], y - y_mean[None, :]
    return jnp.clip(jnp.sum(_centred_units(x) * _centred_units(y), axis=-1), -1.0, 1.0)


@jax.jit
def centred_cosine(
    left: Float[ArrayLike, "n d"],
    right: Float[ArrayLike, "n d"],
    *,
    left_mean: Float[ArrayLike, " d"] | None = None,
    right_mean: Float[ArrayLike, " d"] | None = None,
) -> Float[Array, ""]:
    """Mean of `centred_pair_cosines`: agreement beyond the two means.

    Args:
      left: ``(n, d)``, rows of any norm.
      right: ``(n, d)``; row ``i`` belongs to row ``i`` of ``left``.
      left_mean: ``(d,)`` mean of unit rows; default the mean of ``left``'s own.
      right_mean: ``(d,)`` likewise for ``right``.

    Returns:
      A scalar in ``[-1, 1]``, 0 if a side is constant.
    """
    return jnp.mean(
        centred_pair_cosines(left, right, left_mean=left_mean, right_mean=right_mean)
    )


def _centred_units(centred: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Unit rows of centred unit rows; rounding noise about the mean counts as zero."""
    norm = jnp.linalg.norm(centred, axis=-1, keepdims=True)
    # A constant set leaves a few eps after centring: without the floor that noise
    # would be blown up to unit rows with a cosine of its own.
    floor = 16 * jnp.finfo(centred.dtype).eps
    return jnp.where(norm > floor, centred / jnp.maximum(norm, floor), 0.0)


def _check_pairs(call: str, left: ArrayLike, right: ArrayLike) -> None:
    """Raise unless both sides are matrices of one shape."""
    if left.ndim != 2 or left.shape != right.shape or left.shape[0] == 0:
        raise ValueError(
            f"`{call}(left=..., right=...)` expected two arrays of one shape (n, d), "
            f"n at least 1, got {left.shape} and {right.shape}; carry the rows of both "
            "sides to one space first."
        )
