# SPDX-License-Identifier: Apache-2.0
"""Merging, removing and forgetting moments: exact up to rounding, no rows needed.

Reference: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for
computing sample variances", 1979.
"""

import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError, check_number
from jaxalign.moments.statistics import (
    MAX_ROWS,
    Moments,
    add_rows,
    check_moments,
    expand_to,
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
      The moments of all rows, in the wider dtype of the two. Commutative and
      associative up to rounding; exact if one side is empty.

    Raises:
      ValueError: if widths or Grams differ.
    """
    check_pair("merge_moments", left, right)
    return merge_checked(*_in_one_dtype(left, right))


@jax.jit
def merge_checked(left: Moments, right: Moments) -> Moments:
    """Merge moments that are known to fit; two empty ones give an empty one."""
    count = left.count + right.count
    # An empty pair divides 0 by 1, not by 0.
    safe = jnp.where(count == 0, jnp.ones_like(count), count)
    share = right.count / safe

    def mean(of_left, of_right):
        # From the heavier side: of a light one, however far, little may be left.
        step = of_right - of_left
        return jnp.where(
            (right.count > left.count)[..., None],
            of_right - (left.count / safe)[..., None] * step,
            of_left + share[..., None] * step,
        )

    return _combine(
        left,
        right,
        count=count,
        rows=add_rows(left.rows, right.rows),
        sign=1,
        mean=mean,
        spread=left.count * share,
    )


def subtract_moments(whole: Moments, part: Moments) -> Moments:
    """Take the rows of `part` out of `whole`: the inverse of `merge_moments`.

    Args:
      whole: moments of all rows.
      part: moments of some of these rows.

    Returns:
      The moments of the rest, right up to rounding relative to `whole`: taking nearly
      everything out leaves mostly rounding, so prefer merging the parts to keep. So a
      user's rows, or a shard, can be taken out of a finished pass.

    Raises:
      ValueError: if widths or Grams differ, or the part has more rows than the whole.
    """
    check_pair("subtract_moments", whole, part)
    traced = any(isinstance(one.rows, jax.core.Tracer) for one in (whole, part))
    if not traced and bool(jnp.any(part.rows > whole.rows)):
        expected = "a part of the whole"
        got = "one of more rows"
        remedy = "pass the larger first, of which `part` holds some rows"
        raise ArgumentError("subtract_moments(whole, part)", expected, got, remedy)
    return _subtract(*_in_one_dtype(whole, part))


@jax.jit
def _subtract(whole, part):
    """Subtract centred sums; an emptied accumulator is exactly empty."""
    count, rows = whole.count - part.count, whole.rows - part.rows
    # A number of rows that stopped counting does not determine the rest.
    rows = jnp.where(whole.rows == MAX_ROWS, whole.rows, rows)
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
        mean=lambda of_all, own: of_all + share[..., None] * (of_all - own),
        spread=-whole.count * share,
    )
    # Rounding left over from an emptied accumulator would break "empty is neutral".
    return jax.tree.map(
        lambda leaf: jnp.where(expand_to(empty, leaf), jnp.zeros_like(leaf), leaf), rest
    )


def decay_moments(moments: Moments, factor: float | Float[ArrayLike, "*g"]) -> Moments:
    r"""Forget: scale the weight of all rows so far, so that newer ones count more.

    With a factor :math:`\gamma` before each update, a row that is k updates old has
    weight :math:`\gamma^k`, for models that keep changing.

    Args:
      moments: of the rows so far.
      factor: :math:`\gamma`, 0 to 1; one for all groups, or one each, ``(*g)``.

    Returns:
      The moments with `count`, sums and energies scaled; means and `rows` stay.

    Raises:
      ValueError: if the factor is a number outside 0 to 1.

    >>> from jaxalign.moments import init_moments, update_moments
    >>> moments = update_moments(init_moments(2, 2), jnp.eye(2), jnp.eye(2))
    >>> float(decay_moments(moments, 0.5).count)
    1.0
    """
    check_moments("decay_moments", moments)
    check_factor("decay_moments", "factor", factor)
    return weigh_moments(moments, factor)


def check_factor(call: str, argument: str, factor: object) -> None:
    """Raise if a factor of forgetting is a number outside 0 to 1."""
    if isinstance(factor, float | int):
        remedy = "1 forgets nothing, and 0.99 halves a row's weight in about 69 updates"
        check_number(call, argument, factor, least=0.0, most=1.0, remedy=remedy)


@jax.jit
def weigh_moments(moments: Moments, factor: float | Float[ArrayLike, "*g"]) -> Moments:
    """Multiply the weight of every row; their number, and the means, stay.

    Args:
      moments: of any leading axes.
      factor: not negative; one for all groups, or one each, ``(*g)``.
    """
    factor = jnp.broadcast_to(
        jnp.asarray(factor, moments.count.dtype), moments.count.shape
    )
    means = (moments.source_mean, moments.target_mean, moments.rows)

    def scaled(leaf):
        if any(leaf is kept for kept in means):
            return leaf
        return leaf * expand_to(factor, leaf)

    return jax.tree.map(scaled, moments)


def _combine(left, right, *, count, rows, sign, mean, spread):
    """Add or subtract centred sums, with the term between the two means."""
    delta_x = right.source_mean - left.source_mean
    delta_y = right.target_mean - left.target_mean

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
        source_mean=mean(left.source_mean, right.source_mean),
        target_mean=mean(left.target_mean, right.target_mean),
        cross_covariance=outer(
            left.cross_covariance, right.cross_covariance, delta_y, delta_x
        ),
        source_energy=energy(left.source_energy, right.source_energy, delta_x),
        target_energy=energy(left.target_energy, right.target_energy, delta_y),
        source_gram=source_gram,
        target_gram=target_gram,
    )


def _in_one_dtype(left: Moments, right: Moments) -> tuple[Moments, Moments]:
    """Bring two moments to the wider of their dtypes: float64 may join later."""
    wider = max(left.count.dtype, right.count.dtype, key=lambda one: one.itemsize)

    def widened(moments):
        if moments.count.dtype == wider:
            return moments
        return jax.tree.map(
            lambda leaf: leaf if leaf is moments.rows else leaf.astype(wider), moments
        )

    return widened(left), widened(right)


def check_pair(call, left, right):
    """Raise unless two moments agree in their widths, groups and Gram matrices."""
    check_moments(call, left)
    check_moments(call, right)
    for kind, one, other, remedy in (
        (
            "widths (d_source, d_target)",
            (left.d_source, left.d_target),
            (right.d_source, right.d_target),
            "both must be of the same two models, in the same direction",
        ),
        (
            "groups",
            left.groups,
            right.groups,
            "both must keep the same groups, or use `reduce_groups` first",
        ),
        (
            "use of Gram matrices",
            left.source_gram is not None,
            right.source_gram is not None,
            "make both by `init_moments(..., grams=True)`, or neither",
        ),
    ):
        if one != other:
            raise ArgumentError(call, f"equal {kind}", f"{one} and {other}", remedy)
