# SPDX-License-Identifier: Apache-2.0
"""Adding rows to moments, in blocks that stay in the processor's cache.

A batch is cut into blocks. Each is centred by its own mean, multiplied and merged, so
that centring costs no pass over memory, and a large common mean never cancels. With
groups, the blocks of `grouped` take the place of consecutive ones.

Reference: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for
computing sample variances", 1979.
"""

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import float_rows, native_floats
from jaxalign.moments.grouped import grouped_batch
from jaxalign.moments.merging import check_factor, merge_checked, weigh_moments
from jaxalign.moments.rows import moments_of_block
from jaxalign.moments.statistics import Moments, check_moments
from jaxalign.moments.weights import row_weights

# Rows of a block: few enough that two blocks of d = 768 stay in the cache, enough that
# adding their product to the sum, O(d^2), is small beside the product.
BLOCK = 2048


def update_moments(
    moments: Moments,
    source: Float[ArrayLike, "n d_source"],
    target: Float[ArrayLike, "n d_target"],
    *,
    weights: Shaped[ArrayLike, " n"] | None = None,
    group: Int[ArrayLike, " n"] | None = None,
    decay: float | None = None,
    skip_bad: bool = False,
    donate: bool = False,
) -> Moments:
    r"""Add one batch of paired rows.

    With weights :math:`w_i` (``weights``) and rows :math:`x_i`, :math:`y_i`
    (``source``, ``target``) about their weighted means :math:`\bar x`, :math:`\bar y`,
    the batch has
    :math:`C = \sum_i w_i (y_i - \bar y)(x_i - \bar x)^\top`; it is then merged.

    Args:
      moments: of the rows so far; with one leading axis if there are groups. Use
        `jax.vmap` for batches of problems whose rows are apart.
      source: shape ``(n, d_source)``, any real floating dtype.
      target: shape ``(n, d_target)``; row i belongs to row i of `source`.
      weights: shape ``(n,)``, not negative, or a boolean mask. A row of weight 0 is
        padding: it may hold anything, NaN too. Default: all 1.
      group: shape ``(n,)``, the number of each row's group, below ``G``; asked for if
        and only if `moments` has groups. Within `jax.jit`, where numbers cannot be
        checked, a row of a group that does not exist is left out.
      decay: forget first, as `decay_moments` does. Default: nothing is forgotten.
      skip_bad: static; give weight 0 to pairs of which a row is not finite or is zero,
        as a failed embedding is. Their number is that of the rows less `rows`.
      donate: static; whether the result may take the memory of `moments`, which must
        not be used afterwards, as in ``moments = update_moments(moments, ...,
        donate=True)``. It spares a copy of all groups a batch. Within `jax.jit` it
        does nothing: donate the arguments of the outermost call instead.

    Returns:
      The moments with the batch added, accumulated in the dtype of `moments`.

    Raises:
      ValueError: if shapes do not pair with each other or with `moments`, a group does
        not exist, rows are not real floating numbers, or an argument is no array.

    Notes:
      Cost O(n d_source d_target), the Grams as much again. Groups cost at most twice
      as much where they have some 128 rows each or more; smaller ones cost more, since
      each needs a product of its own. No collectives of its own. The result does not
      depend on how rows are cut into batches, up to rounding. Group numbers on the
      host are checked there; those on a device are waited for, once.

    >>> import jaxalign as ja
    >>> rows = np.array([[1.0, 0.0], [3.0, 0.0]], np.float32)
    >>> moments = update_moments(ja.moments.init_moments(2, 2), rows, rows)
    >>> float(moments.count), float(moments.source_mean[0])
    (2.0, 2.0)
    """
    check_moments("update_moments", moments)
    source = float_rows("update_moments", "source", source, width=moments.d_source)
    target = float_rows("update_moments", "target", target, width=moments.d_target)
    _check_pairs(source, target)
    if weights is not None:
        weights = row_weights("update_moments", weights, source.shape[0])
    _check_group(moments, source, group)
    if group is not None:
        group = native_floats(group)
    if decay is not None:
        check_factor("update_moments", "decay", decay)
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(moments))
    update = _update_in_place if donate and not traced else _update
    return update(moments, source, target, weights, group, decay, skip_bad=skip_bad)


def _add_batch(moments, source, target, weights, group, decay, *, skip_bad):
    """Merge the moments of a batch, in the dtype of `moments` and with its Grams."""
    if skip_bad:
        good = _is_good(source) & _is_good(target)
        weights = (
            good
            if weights is None
            else jnp.where(good, weights, jnp.zeros_like(weights))
        )
    if decay is not None:
        moments = weigh_moments(moments, decay)
    if group is None:
        return merge_checked(moments, _batch_moments(moments, source, target, weights))
    return grouped_batch(moments, source, target, weights, group)


_update = jax.jit(_add_batch, static_argnames="skip_bad")
_update_in_place = jax.jit(_add_batch, static_argnames="skip_bad", donate_argnums=0)


def _is_good(rows):
    """Tell which rows are finite and not zero."""
    return jnp.all(jnp.isfinite(rows), axis=1) & jnp.any(rows != 0, axis=1)


def _batch_moments(like, source, target, weights):
    """Moments of one batch, of the dtype of `like` and with its choice of Grams."""
    n = source.shape[0]
    dtype, grams = like.count.dtype, like.source_gram is not None

    def block(start, size):
        rows = [
            None if side is None else jax.lax.dynamic_slice_in_dim(side, start, size)
            for side in (source, target, weights)
        ]
        return moments_of_block(*rows, dtype=dtype, grams=grams)

    whole = n // BLOCK
    if n <= 2 * BLOCK:
        return moments_of_block(source, target, weights, dtype=dtype, grams=grams)

    def step(sums, start):
        return merge_checked(sums, block(start, BLOCK)), None

    # From nothing, not from `like`: sums of a long run are merged in equal sizes.
    sums = jax.tree.map(jnp.zeros_like, like)
    sums, _ = jax.lax.scan(step, sums, BLOCK * jnp.arange(whole))
    if n % BLOCK:
        sums = merge_checked(sums, block(whole * BLOCK, n % BLOCK))
    return sums


def _check_group(moments, source, group):
    """Raise if moments lack these groups, or hold groups that are not named."""
    if not moments.groups:
        if group is not None:
            expected = "no groups, as `moments` has none"
            remedy = "make the moments by `init_moments(..., groups=G)`"
            raise ArgumentError("update_moments(group=...)", expected, remedy=remedy)
        return
    if len(moments.groups) > 1 or group is None:
        raise ArgumentError(
            f"update_moments(group={'None' if group is None else '...'})",
            "one number a row for moments with one axis of groups, whose axes are "
            f"{moments.groups}",
            remedy="pass group, and number several axes as one",
        )
    if not isinstance(group, jax.Array | np.ndarray) or group.shape != source.shape[:1]:
        raise ArgumentError(
            "update_moments(group=...)",
            f"an array of shape ({source.shape[0]},)",
            getattr(group, "shape", type(group)),
            "pass one number a row",
        )
    check_numbers("update_moments", group, moments.groups[0])


def check_numbers(call: str, group: ArrayLike, groups: int) -> None:
    """Raise if a group does not exist, where its number can be seen.

    Args:
      call: named in the error.
      group: ``(n,)``; what is traced, or lies with other processes, is not looked at.
      groups: how many there are.

    Raises:
      ValueError: saying which came.
    """
    check_whole(call, group)
    if isinstance(group, jax.core.Tracer) or not group.size:
        return
    if isinstance(group, np.ndarray):
        low, high = group.min(), group.max()
    elif group.is_fully_addressable:
        low, high = np.asarray(_range(group))
    else:
        return
    if low < 0 or high >= groups:
        expected = f"0 to {groups - 1}"
        remedy = "give padding weight 0 and any group that exists"
        raise ArgumentError(f"{call}(group=...)", expected, f"{low} to {high}", remedy)


def check_whole(call: str, group: ArrayLike) -> None:
    """Raise if the numbers of groups are of no integer dtype."""
    if not jnp.issubdtype(group.dtype, jnp.integer):
        raise ArgumentError(
            f"{call}(group=...)",
            "whole numbers",
            group.dtype,
            "number the groups from 0, as by `numpy.unique(..., return_inverse=True)`",
        )


@jax.jit
def _range(numbers):
    """Least and greatest, in one array: one read, not two."""
    return jnp.stack([jnp.min(numbers), jnp.max(numbers)])


def _check_pairs(source, target):
    """Raise if rows do not pair."""
    if source.shape[0] != target.shape[0]:
        expected = "as many target rows as source rows"
        got = f"{source.shape[0]} and {target.shape[0]}"
        remedy = "row i of one must describe the same anchor as row i of the other"
        raise ArgumentError("update_moments(source, target)", expected, got, remedy)
