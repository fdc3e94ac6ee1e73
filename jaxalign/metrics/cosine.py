# SPDX-License-Identifier: Apache-2.0
r"""Cosines of paired rows: how well two sets of embeddings lie on each other.

A mean cosine alone misleads: two collapsed sets
(all rows alike) score 1. So it is read beside the cosine of mismatched pairs, which a
collapse drives up as well, and the centred cosine, which it drives to 0.

References:
  Gupta, Kansal, Jegelka, Isola, Garg, "Canonicalizing Multimodal Contrastive
  Representation Learning", arXiv 2602.17584 (mean cosine of pairs before and after).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxalign.array_types import ArrayLike
from jaxalign.buckets import first_rows, pad_to_size
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import float_rows
from jaxalign.precise import product
from jaxalign.search.blocks import few_rows_size
from jaxalign.unit_rows import unit_sides


def pair_cosines(
    left: Float[ArrayLike, "n d"], right: Float[ArrayLike, "n d"]
) -> Float[Array, " n"]:
    r"""Cosine of each pair of rows, :math:`\cos(x_i, y_i)`.

    Args:
      left: :math:`x`, ``(n, d)``, rows of any norm.
      right: :math:`y`, ``(n, d)``; row ``i`` belongs to row ``i`` of ``left``.

    Returns:
      ``(n,)`` cosines; their mean is `mean_cosine`.

    Raises:
      ValueError: if a side is no matrix of real floating rows, or the shapes differ.
    """
    left, right, count = _padded_pairs("pair_cosines", left, right)
    return first_rows(_pair_cosines(left, right), int(count))


def mean_cosine(
    left: Float[ArrayLike, "n d"], right: Float[ArrayLike, "n d"]
) -> Float[Array, ""]:
    r"""Mean cosine of paired rows, :math:`\frac1n \sum_i \cos(x_i, y_i)`.

    Args:
      left: :math:`x`, ``(n, d)``, rows of any norm.
      right: :math:`y`, ``(n, d)``; row ``i`` belongs to row ``i`` of ``left``.

    Returns:
      A scalar in ``[-1, 1]``.

    Raises:
      ValueError: if a side is no matrix of real floating rows, or the shapes differ.

    >>> rows = jnp.eye(2, 3)
    >>> round(float(mean_cosine(rows, 5.0 * rows)), 3)
    1.0
    """
    return _mean_cosine(*_padded_pairs("mean_cosine", left, right))


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
      ValueError: if there are fewer than two pairs, a side is no matrix of real
        floating rows, or the shapes differ.
    """
    left, right, count = _padded_pairs("mismatched_cosine", left, right)
    if count < 2:
        raise ArgumentError(
            "mismatched_cosine(left=...)",
            "at least 2 rows",
            count,
            "one pair has no mismatched partner",
        )
    return _mismatched_cosine(left, right, count)


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

    Raises:
      ValueError: if a side is no matrix of real floating rows, or the shapes differ.
    """
    left, right, count = _padded_pairs("centred_pair_cosines", left, right)
    cosines = _centred_pair_cosines(left, right, count, left_mean, right_mean)
    return first_rows(cosines, int(count))


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

    Raises:
      ValueError: if a side is no matrix of real floating rows, or the shapes differ.
    """
    left, right, count = _padded_pairs("centred_cosine", left, right)
    return _centred_cosine(left, right, count, left_mean, right_mean)


def agreement(
    left: Float[ArrayLike, "n d"], right: Float[ArrayLike, "n d"]
) -> tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, ""] | None]:
    """Compute all cosines of paired rows in one program.

    Args:
      left: ``(n, d)``, rows of any norm.
      right: ``(n, d)``; row ``i`` belongs to row ``i`` of ``left``.

    Returns:
      `pair_cosines`, `centred_pair_cosines` and `mismatched_cosine`; None for the last
      if there is one pair only.
    """
    left, right, count = _padded_pairs("agreement", left, right)
    cosines, centred, mismatched = _agreement(left, right, count)
    n = int(count)
    return first_rows(cosines, n), first_rows(centred, n), mismatched if n > 1 else None


# Rows beyond `count` are zero on both sides, and so are their cosines and unit rows.


@jax.jit
def _pair_cosines(left, right):
    # Rounding may step past 1 by an eps or two.
    left, right = unit_sides(left, right)
    return jnp.clip(jnp.sum(left * right, axis=-1), -1.0, 1.0)


@jax.jit
def _mean_cosine(left, right, count):
    cosines = _pair_cosines(left, right)
    return jnp.sum(cosines) / count.astype(cosines.dtype)


@jax.jit
def _mismatched_cosine(left, right, count):
    x, y = unit_sides(left, right)
    all_pairs = product(jnp.sum(x, axis=0), jnp.sum(y, axis=0))
    n = count.astype(x.dtype)
    return (all_pairs - jnp.sum(x * y)) / jnp.maximum(n * (n - 1), 1)


@jax.jit
def _centred_pair_cosines(left, right, count, left_mean, right_mean):
    x, y = unit_sides(left, right)
    x, y = _centred_units(x, left_mean, count), _centred_units(y, right_mean, count)
    return jnp.clip(jnp.sum(x * y, axis=-1), -1.0, 1.0)


@jax.jit
def _centred_cosine(left, right, count, left_mean, right_mean):
    cosines = _centred_pair_cosines(left, right, count, left_mean, right_mean)
    return jnp.sum(cosines) / count.astype(cosines.dtype)


@jax.jit
def _agreement(left, right, count):
    return (
        _pair_cosines(left, right),
        _centred_pair_cosines(left, right, count, None, None),
        _mismatched_cosine(left, right, count),
    )


def _centred_units(units, mean, count):
    """Unit rows of centred unit rows; rounding noise about the mean counts as zero."""
    if mean is None:
        mean = jnp.sum(units, axis=0) / count.astype(units.dtype)
    centred = units - jnp.asarray(mean, units.dtype)[None, :]
    real = (jnp.arange(units.shape[0], dtype=jnp.int32) < count)[:, None]
    norm = jnp.linalg.norm(centred, axis=-1, keepdims=True)
    # A constant set leaves a few eps after centring: without the floor that noise
    # would be blown up to unit rows with a cosine of its own.
    floor = 16 * jnp.finfo(centred.dtype).eps
    return jnp.where(real & (norm > floor), centred / jnp.maximum(norm, floor), 0.0)


def _padded_pairs(call: str, left: Any, right: Any):
    """Validate both sides and pad them to one bucket; also give the number of pairs."""
    left = float_rows(call, "left", left)
    right = float_rows(call, "right", right, width=left.shape[1])
    n = left.shape[0]
    if right.shape[0] != n or n == 0:
        raise ArgumentError(
            f"{call}(left=..., right=...)",
            "two arrays of one shape (n, d), n at least 1",
            f"{left.shape} and {right.shape}",
            "carry the rows of both sides to one space first",
        )
    size = few_rows_size(n, left, right)
    return pad_to_size(left, size), pad_to_size(right, size), np.int32(n)
