# SPDX-License-Identifier: Apache-2.0
"""Centred second moments of paired rows: the statistics every closed form needs.

Rows go in by batches, in any order, and out comes what Procrustes and least squares
ask for, independent of the number of anchors. All sums are of CENTRED products, merged
pairwise (Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for
computing sample variances", 1979): real embeddings sit in a cone whose mean has norm
0.5 to 0.9, and subtracting ``n * mean * mean`` at the end would cancel.
"""

import typing

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxalign.array_types import Array, ArrayLike

_HIGHEST = jax.lax.Precision.HIGHEST


@typing.no_type_check
@flax.struct.dataclass
class Moments:
    """Centred moments of paired source and target rows; leading axes are groups.

    Attributes:
      count: sum of the weights, shape ``(*g)``; the number of anchors if unweighted.
      rows: rows whose weight is not 0, shape ``(*g)``, int32; it bounds the rank.
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


def init_moments(d_source: int, d_target: int, *, grams: bool = False) -> Moments:
    """Make the moments of no rows at all, the neutral element of merging.

    Args:
      d_source: width of the source rows, at least 1.
      d_target: width of the target rows, at least 1.
      grams: static; also keep both Gram matrices, which least squares needs, and
        Procrustes too where ``d_source > d_target``.

    Returns:
      Zeros in float32, or in float64 when x64 is enabled.

    Raises:
      ValueError: if a width is below 1.

    >>> init_moments(3, 2).cross_covariance.shape
    (2, 3)
    """
    for name, width in (("d_source", d_source), ("d_target", d_target)):
        if width < 1:
            raise ValueError(
                f"`init_moments({name}={width})`: expected a width of at least 1; "
                "pass the number of columns of the rows."
            )
    dtype = jax.dtypes.canonicalize_dtype(float)
    return Moments(
        count=jnp.zeros((), dtype),
        rows=jnp.zeros((), jnp.int32),
        source_mean=jnp.zeros((d_source,), dtype),
        target_mean=jnp.zeros((d_target,), dtype),
        cross_covariance=jnp.zeros((d_target, d_source), dtype),
        source_energy=jnp.zeros((), dtype),
        target_energy=jnp.zeros((), dtype),
        source_gram=jnp.zeros((d_source, d_source), dtype) if grams else None,
        target_gram=jnp.zeros((d_target, d_target), dtype) if grams else None,
    )


def update_moments(
    moments: Moments,
    source: Float[ArrayLike, "n d_source"],
    target: Float[ArrayLike, "n d_target"],
    *,
    weights: Shaped[ArrayLike, " n"] | None = None,
) -> Moments:
    r"""Add one batch of paired rows.

    With weights :math:`w_i` (``weights``) and rows :math:`x_i`, :math:`y_i`
    (``source``, ``target``) about their weighted means :math:`\bar x`, :math:`\bar y`,
    the batch has
    :math:`C = \sum_i w_i (y_i - \bar y)(x_i - \bar x)^\top`; it is then merged.

    Args:
      moments: of the rows so far, without leading axes; `jax.vmap` this function for
        several groups at once.
      source: shape ``(n, d_source)``, any floating dtype.
      target: shape ``(n, d_target)``; row i belongs to row i of `source`.
      weights: shape ``(n,)``, not negative, or a boolean mask. A row of weight 0 is
        padding: it may hold anything, NaN too. Default: all 1.

    Returns:
      The moments with the batch added, accumulated in the dtype of `moments`.

    Raises:
      ValueError: if shapes do not pair with each other or with `moments`, or an
        argument is no array.

    Notes:
      Cost O(n d_source d_target), the Grams as much again. No collectives of its own.
      The result does not depend on how rows are cut into batches, up to rounding.

    >>> import numpy as np
    >>> rows = np.array([[1.0, 0.0], [3.0, 0.0]], np.float32)
    >>> moments = update_moments(init_moments(2, 2), rows, rows)
    >>> moments.source_mean.tolist(), float(moments.source_energy)
    ([2.0, 0.0], 2.0)
    """
    _check_batch(moments, source, target, weights)
    return _merge(moments, _batch_moments(moments, source, target, weights))


@jax.jit
def _batch_moments(moments, source, target, weights):
    """Moments of one batch, in the dtype of `moments` and with its choice of Grams."""
    dtype = moments.count.dtype
    source, target = jnp.asarray(source, dtype), jnp.asarray(target, dtype)
    if weights is None:
        weights = jnp.ones(source.shape[:1], dtype)
    weights = jnp.asarray(weights, dtype)
    kept = weights != 0
    count = jnp.sum(weights)
    source_mean, source_c = _centre(source, weights, kept, count)
    target_mean, target_c = _centre(target, weights, kept, count)
    grams = moments.source_gram is not None
    return Moments(
        count=count,
        rows=jnp.sum(kept, dtype=jnp.int32),
        source_mean=source_mean,
        target_mean=target_mean,
        cross_covariance=_product(target_c, source_c, weights),
        source_energy=jnp.sum(weights * jnp.sum(jnp.square(source_c), axis=-1)),
        target_energy=jnp.sum(weights * jnp.sum(jnp.square(target_c), axis=-1)),
        source_gram=_product(source_c, source_c, weights) if grams else None,
        target_gram=_product(target_c, target_c, weights) if grams else None,
    )


def merge_moments(left: Moments, right: Moments) -> Moments:
    r"""Merge the moments of two disjoint sets of rows, batched over leading axes.

    With counts :math:`n_l, n_r` and mean differences :math:`\delta_x, \delta_y`, the
    centred sums add up to
    :math:`C_l + C_r + \frac{n_l n_r}{n_l + n_r} \delta_y \delta_x^\top`.

    Args:
      left: moments, or an empty one from `init_moments`.
      right: moments of the same widths, leading axes and kind (with Grams or without).

    Returns:
      The moments of all rows. Commutative and associative up to rounding; exact if
      one side is empty.

    Raises:
      ValueError: if widths or Grams differ.
    """
    _check_pair("merge_moments", left, right)
    return _merge(left, right)


@jax.jit
def _merge(left, right):
    """Add centred sums; two empty sides give an empty one."""
    count = left.count + right.count
    # An empty pair divides 0 by 1, not by 0.
    safe = jnp.where(count == 0, jnp.ones_like(count), count)
    share = right.count / safe
    return _combine(
        left,
        right,
        count=count,
        rows=left.rows + right.rows,
        sign=1,
        mean_shift=share,
        spread=left.count * share,
    )


def subtract_moments(whole: Moments, part: Moments) -> Moments:
    """Take the rows of `part` out of `whole`: the inverse of `merge_moments`.

    Args:
      whole: moments of all rows.
      part: moments of some of these rows.

    Returns:
      The moments of the rest, right up to rounding relative to `whole`: taking nearly
      everything out leaves mostly rounding, so prefer merging the parts to keep.

    Raises:
      ValueError: if widths or Grams differ.
    """
    _check_pair("subtract_moments", whole, part)
    return _subtract(whole, part)


@jax.jit
def _subtract(whole, part):
    """Subtract centred sums; an emptied accumulator is exactly empty."""
    count, rows = whole.count - part.count, whole.rows - part.rows
    empty = rows == 0
    count = jnp.where(empty, jnp.zeros_like(count), count)
    safe = jnp.where(empty, jnp.ones_like(count), count)
    # mean = whole + (whole - part) n_part / n, spread n_whole n_part / n.
    share = part.count / safe
    rest = _combine(
        whole,
        part,
        count=count,
        rows=rows,
        sign=-1,
        mean_shift=-share,
        spread=-whole.count * share,
    )
    # Rounding left over from an emptied accumulator would break "empty is neutral".
    return jax.tree.map(
        lambda leaf: jnp.where(
            empty.reshape(empty.shape + (1,) * (leaf.ndim - empty.ndim)),
            jnp.zeros_like(leaf),
            leaf,
        ),
        rest,
    )


def _centre(rows, weights, kept, count):
    """Weighted mean, and rows about it with padding at 0, in two passes."""
    rows = jnp.where(kept[:, None], rows, jnp.zeros_like(rows))
    safe = jnp.where(count == 0, jnp.ones_like(count), count)

    def mean_of(values):
        return jnp.matmul(weights, values, precision=_HIGHEST) / safe

    # The second pass removes the rounding of the first mean, which a large mean makes
    # as large as the spread of a tight cone.
    first = mean_of(rows)
    rough = jnp.where(kept[:, None], rows - first[None, :], jnp.zeros_like(rows))
    residual = mean_of(rough)
    centred = jnp.where(kept[:, None], rough - residual[None, :], rough)
    return first + residual, centred


def _product(left_c, right_c, weights):
    """Weighted sum of outer products, left rows by right rows."""
    # (d_left, n) @ (n, d_right)
    return jnp.matmul((weights[:, None] * left_c).T, right_c, precision=_HIGHEST)


def _combine(left, right, *, count, rows, sign, mean_shift, spread):
    """Add or subtract centred sums, with the term between the two means."""
    delta_x = right.source_mean - left.source_mean
    delta_y = right.target_mean - left.target_mean
    shift = mean_shift[..., None]

    def outer(left_sum, right_sum, rows_delta, columns_delta):
        between = rows_delta[..., :, None] * columns_delta[..., None, :]
        return left_sum + sign * right_sum + spread[..., None, None] * between

    def energy(left_sum, right_sum, delta):
        between = jnp.sum(jnp.square(delta), axis=-1)
        return left_sum + sign * right_sum + spread * between

    source_gram = target_gram = None
    if left.source_gram is not None:
        source_gram = outer(left.source_gram, right.source_gram, delta_x, delta_x)
        target_gram = outer(left.target_gram, right.target_gram, delta_y, delta_y)
    return Moments(
        count=count,
        rows=rows,
        source_mean=left.source_mean + shift * delta_x,
        target_mean=left.target_mean + shift * delta_y,
        cross_covariance=outer(
            left.cross_covariance, right.cross_covariance, delta_y, delta_x
        ),
        source_energy=energy(left.source_energy, right.source_energy, delta_x),
        target_energy=energy(left.target_energy, right.target_energy, delta_y),
        source_gram=source_gram,
        target_gram=target_gram,
    )


def _check_batch(moments, source, target, weights):
    """Refuse a batch whose shapes do not fit, naming the argument."""
    for name, value in (("source", source), ("target", target), ("weights", weights)):
        missing = name == "weights" and value is None
        if not (missing or isinstance(value, jax.Array | np.ndarray)):
            raise ValueError(
                f"`update_moments({name}=...)`: expected an array, got "
                f"{type(value).__name__}; convert it with `numpy.asarray`."
            )
    for name, rows, width in (
        ("source", source, moments.d_source),
        ("target", target, moments.d_target),
    ):
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(
                f"`update_moments({name}=...)`: expected rows of shape (n, {width}), "
                f"got {rows.shape}; make the moments by `init_moments` with the widths "
                "of the two models, and pass source before target."
            )
    if source.shape[0] != target.shape[0]:
        raise ValueError(
            f"`update_moments(source, target)`: expected as many target rows as source "
            f"rows, got {source.shape[0]} and {target.shape[0]}; row i of one must "
            "describe the same anchor as row i of the other."
        )
    if weights is not None and weights.shape != source.shape[:1]:
        raise ValueError(
            f"`update_moments(weights=...)`: expected shape ({source.shape[0]},), got "
            f"{weights.shape}; pass one weight per row, 0 for padding."
        )


def _check_pair(call, left, right):
    """Refuse two moments of other widths, or of which only one holds Grams."""
    if (left.d_source, left.d_target) != (right.d_source, right.d_target):
        raise ValueError(
            f"`{call}`: expected equal widths (d_source, d_target), got "
            f"{(left.d_source, left.d_target)} and {(right.d_source, right.d_target)}; "
            "both must be of the same two models, in the same direction."
        )
    if (left.source_gram is None) != (right.source_gram is None):
        raise ValueError(
            f"`{call}`: expected both moments with Gram matrices or both without, got "
            "one of each; make both by `init_moments(..., grams=True)`."
        )
