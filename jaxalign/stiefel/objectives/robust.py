# SPDX-License-Identifier: Apache-2.0
"""Robust error of single rows as an objective: wrong pairs pull with bounded force.

What `solve_robust` reaches by reweighted closed forms, as a function to descend.
References: Huber, "Robust Statistics", 1981; Verboon and Heiser, "Resistant orthogonal
Procrustes analysis", 1992.
"""

import functools
import typing
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError, check_option
from jaxalign.pytrees import pytree_dataclass, static_field
from jaxalign.stiefel.objectives.points import over_problems, polar_start
from jaxalign.stiefel.objectives.rows import (
    PreparedRows,
    StartsFromPairs,
    aligned_rows,
    prepare_rows,
)

RobustLoss = Literal["huber", "l1"]
ROBUST_LOSSES: tuple[str, ...] = typing.get_args(RobustLoss)

# Of the spread of the errors, as `solve_robust` has it: 95 % efficient for Gaussian
# errors in one dimension.
_HUBER = 1.345
# Of the median error: how near to 0 an error must be not to count in full.
_L1 = 0.01


@pytree_dataclass
class RobustObjective(StartsFromPairs):
    """Mean of a loss of errors that grows like the error; make it by its factory.

    Attributes:
      rows: prepared, both sides centred.
      threshold: where the loss turns from square to linear, ``(*g)``.
      loss: static.
    """

    rows: PreparedRows
    threshold: Float[Array, "*g"]
    loss: str = static_field()

    def __call__(
        self, point: Float[ArrayLike, "*batch d_target d_source"]
    ) -> Float[Array, "..."]:
        """Value at each point, shape: the leading axes of point and data, broadcast."""
        loss = _huber if self.loss == "huber" else _l1
        return self.over_rows("robust_objective", loss, point, ",()", self.threshold)


def robust_objective(
    source: Float[ArrayLike, "*g n d_source"],
    target: Float[ArrayLike, "*g n d_target"],
    *,
    weights: Shaped[ArrayLike, "... n"] | None = None,
    loss: RobustLoss = "huber",
    threshold: float | Float[ArrayLike, "..."] | None = None,
    source_mean: Float[ArrayLike, "... d_source"] | None = None,
    target_mean: Float[ArrayLike, "... d_target"] | None = None,
    scale: float | Float[ArrayLike, "..."] = 1.0,
) -> RobustObjective:
    r"""Make the objective of a robust loss of the errors of single rows.

    .. math::

        f(Q) = \sum_i w_i \rho(r_i) / \sum_i w_i, \qquad
        r_i = |s Q (x_i - \bar x) - (y_i - \bar y)|

    with rows :math:`x_i` of ``source``, :math:`y_i` of ``target``, ``scale`` :math:`s`
    and ``threshold`` :math:`c`. For ``"huber"`` :math:`\rho(r) = r^2 / 2` up to c and
    :math:`c r - c^2 / 2` beyond; for ``"l1"`` :math:`\rho(r) = \sqrt{r^2 + c^2} - c`,
    which is r, less at most c: smooth at 0.

    Args:
      source: ``(..., n, d_source)``; leading axes are problems.
      target: ``(..., n, d_target)``; row i belongs to row i of `source`, mostly.
      weights: ``(n,)`` or ``(..., n)``, not negative; 0 is padding, which may hold
        anything, NaN too. Default: all 1.
      loss: static.
      threshold: above 0, in units of the errors; a number, or one a problem. Default:
        measured once, by the errors of the plain Procrustes map of these rows: for
        ``"huber"`` their median and 1.345 times their spread (1.4826 times the median
        deviation from the median), the rule of `solve_robust`; for ``"l1"`` one
        hundredth of their median.
      source_mean: :math:`\bar x`; default: the weighted mean of these rows, which wrong
        pairs pull too. ``solve_robust(...).moments`` has means they do not pull.
      target_mean: :math:`\bar y`; the same for the target.
      scale: of the rotated rows.

    Returns:
      The objective, at least 0.

    Raises:
      ArgumentError: if shapes do not fit, the loss is unknown, or a threshold that can
        be seen is not above 0.

    Notes:
      O(n d_source d_target) an evaluation, twice that with the gradient; the default
      threshold costs an SVD and a sort, once: pass a number where objectives are made
      of minibatches. Where ``d_source <= d_target``, stationary points are the fixed
      points of `solve_robust` at the same threshold and means: the weights
      :math:`\rho'(r) / r` are the same. Rows split over devices are summed by one
      all-reduce, and the default threshold needs the errors of all.

    References:
      Huber, "Robust Statistics", 1981.
      Verboon and Heiser, "Resistant orthogonal Procrustes analysis", 1992.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> objective = robust_objective(x, 3.0 * x, threshold=1.0)
    >>> round(float(objective(jnp.eye(2))), 3)  # errors 2, 2 and sqrt(8)
    1.776
    """
    check_option(
        "robust_objective",
        "loss",
        loss,
        ROBUST_LOSSES,
        remedy="'tukey', which has flat regions, is left to `solve_robust`",
    )
    seen = isinstance(threshold, float | int | np.ndarray | np.generic)
    if seen and not np.all(np.asarray(threshold) > 0):
        raise ArgumentError(
            f"robust_objective(threshold={threshold})",
            "a number above 0, in units of the errors",
            remedy="leave it out to have it measured",
        )
    rows = prepare_rows(
        "robust_objective",
        source,
        target,
        weights=weights,
        source_mean=source_mean,
        target_mean=target_mean,
        scale=scale,
        centring="both",
        unit=False,
    )
    if threshold is None:
        threshold = _measured_threshold(rows, loss=loss)
    return RobustObjective(
        rows=rows, threshold=jnp.asarray(threshold, rows.source.dtype), loss=loss
    )


@functools.partial(jax.jit, static_argnames="loss")
def _measured_threshold(rows, *, loss):
    """Threshold of each problem, from the errors of its plain Procrustes map."""
    return over_problems(
        _huber_threshold if loss == "huber" else _l1_threshold,
        "(t,s),(n,s),(n,t),(t),(n)",
        *(polar_start(rows.cross), rows.source, rows.target, rows.added, rows.kept),
    )


def _squares(point, source, target, added):
    """Squared errors of all rows; 0 for padding."""
    gap = aligned_rows(point, source, added) - target
    return jnp.sum(jnp.square(gap), axis=-1)


def _huber(point, source, target, added, share, threshold):
    """Mean Huber loss of one problem."""
    squares = _squares(point, source, target, added)
    beyond = squares > jnp.square(threshold)
    # No root where its derivative could be infinite.
    errors = jnp.sqrt(jnp.where(beyond, squares, jnp.ones_like(squares)))
    linear = threshold * (errors - 0.5 * threshold)
    return jnp.sum(share * jnp.where(beyond, linear, 0.5 * squares))


def _l1(point, source, target, added, share, threshold):
    """Mean smoothed norm of the errors of one problem."""
    squares = _squares(point, source, target, added)
    # sqrt(r^2 + c^2) - c without cancellation for small r.
    root = jnp.sqrt(squares + jnp.square(threshold))
    return jnp.sum(share * squares / (root + threshold))


def _huber_threshold(point, source, target, added, kept):
    """Where errors begin to be believed less, by medians."""
    errors, middle, floor = _errors(point, source, target, added, kept)
    spread = 1.4826 * _median(jnp.abs(errors - middle), kept)
    return middle + _HUBER * jnp.maximum(spread, floor)


def _l1_threshold(point, source, target, added, kept):
    """How far the norm is smoothed."""
    _, middle, floor = _errors(point, source, target, added, kept)
    return jnp.maximum(_L1 * middle, floor)


def _errors(point, source, target, added, kept):
    """Errors at a map, their median, and what is rounding for them."""
    errors = jnp.sqrt(_squares(point, source, target, added))
    middle = _median(errors, kept)
    size = jnp.sqrt(jnp.max(jnp.sum(jnp.square(target), axis=-1)))
    rounding = 64.0 * float(jnp.finfo(errors.dtype).eps) * size
    # A perfect fit of most pairs has no spread, and rows of zeros have no size.
    floor = jnp.maximum(jnp.maximum(1e-3 * middle, rounding), 1e-30)
    return errors, middle, jax.lax.stop_gradient(floor)


def _median(values, kept):
    """Lower median of the rows that count, with padding sorted to the end."""
    ordered = jnp.sort(jnp.where(kept, values, jnp.inf))
    middle = ordered[jnp.maximum(jnp.sum(kept) - 1, 0) // 2]
    return jnp.where(jnp.any(kept), middle, jnp.zeros_like(middle))
