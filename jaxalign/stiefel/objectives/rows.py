# SPDX-License-Identifier: Apache-2.0
r"""Paired rows on their way into an objective: centred, masked, with shares.

What every objective from rows takes alike. An aligned row is
:math:`s (x - \bar x) Q^\top + a`, and `centring` says what it is compared with:

* ``"map"``: :math:`a = \bar y`, with the target row as it is: the paper's map;
* ``"query"``: :math:`a = 0`, with the target row as it is: the better query where
  target rows sit in a tight cone (``amap(..., add_target_mean=False)``);
* ``"both"``: :math:`a = 0`, with :math:`y - \bar y`.

Reference: Gupta, Kansal, Jegelka, Isola, Garg, "Canonicalizing Multimodal Contrastive
Representation Learning", arXiv 2602.17584 (the map).
"""

import functools
import typing
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Shaped

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError, check_option
from jaxalign.float_rows import check_floating, native_floats, wide_dtype
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass
from jaxalign.stiefel.objectives.points import StartsFromCross, as_point, over_problems

Centring = Literal["map", "query", "both"]
CENTRINGS: tuple[str, ...] = typing.get_args(Centring)


@pytree_dataclass
class PreparedRows:
    """Rows ready to be aligned and compared; those of weight 0 are zeros.

    Attributes:
      source: centred, times the scale, ``(*g, n, d_source)``.
      target: as they are compared, ``(*g, m, d_target)``; unit rows where cosines are.
      added: to each aligned row, ``(*g, d_target)``.
      share: weights of the source rows over their sum, ``(*g, n)``.
      kept: source rows that count, ``(*g, n)``.
      target_share: the same for the target rows, ``(*g, m)``.
      target_kept: ``(*g, m)``.
      cross: cross-covariance of the pairs, centred, a mean, of unit rows where cosines
        are compared, ``(*g, d_target, d_source)``; zeros if rows are not paired.
    """

    source: Float[Array, "*g n d_source"]
    target: Float[Array, "*g m d_target"]
    added: Float[Array, "*g d_target"]
    share: Float[Array, "*g n"]
    kept: Bool[Array, "*g n"]
    target_share: Float[Array, "*g m"]
    target_kept: Bool[Array, "*g m"]
    cross: Float[Array, "*g d_target d_source"]

    def point_like(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of one point."""
        widths = (self.target.shape[-1], self.source.shape[-1])
        return jax.ShapeDtypeStruct(widths, self.source.dtype)


class StartsFromPairs(StartsFromCross):
    """An objective of paired rows: starts from Procrustes, of unit rows for cosines."""

    rows: PreparedRows

    def start_matrix(self) -> Float[Array, "*g d_target d_source"]:
        """Matrix whose polar factor is `closed_form_start`."""
        return self.rows.cross

    def over_rows(
        self,
        call: str,
        function: Callable[..., jax.Array],
        point: Float[ArrayLike, "*batch d_target d_source"],
        signature: str = "",
        *more: jax.Array,
    ) -> Float[Array, "..."]:
        """Evaluate one problem's function of a point and its rows, see `over_problems`.

        Args:
          call: of the objective, for a message.
          function: of point, source, target, added, share, and `more`.
          point: the points.
          signature: of `more`.
          *more: other arrays of the problem.
        """
        point, rows = as_point(call, point, self.rows.point_like()), self.rows
        arrays = (point, rows.source, rows.target, rows.added, rows.share, *more)
        whole = "(t,s),(n,s),(n,t),(t),(n)" + signature
        return over_problems(function, whole, *arrays)


def prepare_rows(
    call: str,
    source: Float[ArrayLike, "..."],
    target: Float[ArrayLike, "..."],
    *,
    weights: Shaped[ArrayLike, "..."] | None,
    target_weights: Shaped[ArrayLike, "..."] | None = None,
    paired: bool = True,
    source_mean: Float[ArrayLike, "..."] | None,
    target_mean: Float[ArrayLike, "..."] | None,
    scale: float | Float[ArrayLike, "..."],
    centring: Centring,
    unit: bool,
) -> PreparedRows:
    """Check, mask, centre and scale rows.

    Args:
      call: of the factory, for messages.
      source: ``(*g, n, d_source)``, any floating dtype.
      target: ``(*g, m, d_target)``.
      weights: ``(*g, n)`` or ``(n,)``, not negative, or None; 0 is padding.
      target_weights: ``(*g, m)`` or ``(m,)``; None: the same as `weights` if `paired`,
        else all 1.
      paired: static; row i of one side belongs to row i of the other.
      source_mean: ``(*g, d_source)`` or ``(d_source,)``; None: the weighted mean.
      target_mean: the same for the target.
      scale: of the rotated rows; a number, or ``(*g)``.
      centring: static.
      unit: static; whether cosines are compared, and not distances.

    Raises:
      ArgumentError: if shapes do not fit, or an option is unknown.
    """
    _check_rows(call, source, target, paired)
    source, target = native_floats(source), native_floats(target)
    check_option(call, "centring", centring, CENTRINGS)
    n, m = source.shape[:-1], target.shape[:-1]
    if target_weights is None and paired:
        target_weights = weights
    for name, value, shape in (
        ("weights", weights, n),
        ("target_weights", target_weights, m),
    ):
        check_per_row(call, name, value, shape)
        if isinstance(value, np.ndarray) and value.size and value.min() < 0:
            raise ArgumentError(
                f"{call}({name}=...)",
                "numbers of at least 0",
                f"{value.min():.3g}",
                "0 leaves a row out",
            )
    for name, value, rows in (
        ("source_mean", source_mean, source),
        ("target_mean", target_mean, target),
    ):
        allowed = {rows.shape[-1:], (*rows.shape[:-2], rows.shape[-1])}
        if value is not None and np.shape(value) not in allowed:
            raise ArgumentError(
                f"{call}({name}=...)",
                f"shape ({rows.shape[-1]},)",
                np.shape(value),
                "pass the mean of the map's own side, or leave it out for that of "
                "these rows",
            )
    return _prepare(
        source,
        target,
        weights,
        target_weights,
        source_mean,
        target_mean,
        scale,
        centring=centring,
        unit=unit,
        paired=paired,
    )


@functools.partial(jax.jit, static_argnames=("centring", "unit", "paired"))
def _prepare(
    source,
    target,
    weights,
    target_weights,
    source_mean,
    target_mean,
    scale,
    *,
    centring,
    unit,
    paired,
):
    """Prepare both sides, in one dtype."""
    dtype = np.promote_types(wide_dtype(source.dtype), wide_dtype(target.dtype))
    source, share, kept = _masked(source, weights, dtype)
    target, target_share, target_kept = _masked(target, target_weights, dtype)
    source_mean = _mean(source, share, source_mean)
    target_mean = _mean(target, target_share, target_mean)
    scale = jnp.broadcast_to(jnp.asarray(scale, dtype), source.shape[:-2])
    centred = scale[..., None, None] * (source - source_mean[..., None, :])
    if centring == "both":
        target = target - target_mean[..., None, :]
        target = jnp.where(target_kept[..., None], target, jnp.zeros_like(target))
    added = target_mean if centring == "map" else jnp.zeros_like(target_mean)
    centred = jnp.where(kept[..., None], centred, jnp.zeros_like(centred))
    return PreparedRows(
        source=centred,
        target=unit_rows(target) if unit else target,
        added=added,
        share=share,
        kept=kept,
        target_share=target_share,
        target_kept=target_kept,
        cross=_cross(centred, target - added[..., None, :], share, unit)
        if paired
        else jnp.zeros((*added.shape, source.shape[-1]), dtype),
    )


def _cross(source, target, share, unit):
    """Cross-covariance of pairs, a mean; of unit rows if asked for."""
    if unit:
        source, target = unit_rows(source), unit_rows(target)
    weighted = jnp.swapaxes(share[..., None] * target, -1, -2)
    # (..., d_target, n) @ (..., n, d_source)
    return product(weighted, source)


def _masked(rows, weights, dtype):
    """Rows with padding set to 0, shares of the weights, and what is kept."""
    rows = jnp.asarray(rows, dtype)
    if weights is None:
        weights = jnp.ones(rows.shape[:-1], dtype)
    weights = jnp.broadcast_to(jnp.asarray(weights, dtype), rows.shape[:-1])
    kept = weights > 0
    weights = jnp.where(kept, weights, jnp.zeros_like(weights))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    share = weights / jnp.where(total > 0, total, jnp.ones_like(total))
    return jnp.where(kept[..., None], rows, jnp.zeros_like(rows)), share, kept


def _mean(rows, share, given):
    """Mean as given, or of these rows."""
    shape = (*rows.shape[:-2], rows.shape[-1])
    if given is not None:
        return jnp.broadcast_to(jnp.asarray(given, rows.dtype), shape)
    return jnp.sum(share[..., None] * rows, axis=-2)


def aligned_rows(
    point: Float[Array, "d_target d_source"],
    source: Float[Array, "n d_source"],
    added: Float[Array, " d_target"],
) -> Float[Array, "n d_target"]:
    """Carry prepared source rows to the target space."""
    # (n, d_source) @ (d_source, d_target)
    return product(source, point.T) + added[None, :]


def unit_rows(rows: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """Divide rows by their norms; a row of zeros stays, and has the derivative 0."""
    squares = jnp.sum(jnp.square(rows), axis=-1, keepdims=True)
    # Inside the root, not behind it: the derivative of a norm at 0 is NaN.
    return rows / jnp.sqrt(jnp.where(squares > 0, squares, jnp.ones_like(squares)))


def check_per_row(call: str, name: str, value: Any, shape: tuple[int, ...]) -> None:
    """Raise unless `value` is one number a row of that shape ``(*g, n)``.

    Raises:
      ArgumentError: naming the argument.
    """
    if value is not None and np.shape(value) not in {shape, shape[-1:]}:
        raise ArgumentError(
            f"{call}({name}=...)",
            f"shape ({shape[-1]},)",
            np.shape(value),
            "pass one number per row",
        )


def _check_rows(call, source, target, paired):
    """Raise for arrays that are not rows, or that do not pair."""
    for name, rows in (("source", source), ("target", target)):
        if not isinstance(rows, jax.Array | np.ndarray) or rows.ndim < 2:
            got = getattr(rows, "shape", type(rows).__name__)
            raise ArgumentError(
                f"{call}({name}=...)",
                "rows of shape (..., n, d)",
                got,
                "it works from rows: moments do not tell one from another",
            )
        check_floating(call, name, rows)
        if not rows.shape[-2]:
            raise ArgumentError(
                f"{call}({name}=...)",
                "at least one row",
                f"shape {rows.shape}",
                "pass the anchors",
            )
    if source.shape[:-2] != target.shape[:-2]:
        raise ArgumentError(
            f"{call}(source, target)",
            "the same leading axes",
            f"{source.shape[:-2]} and {target.shape[:-2]}",
            "broadcast one side",
        )
    if paired and source.shape[-2] != target.shape[-2]:
        raise ArgumentError(
            f"{call}(source, target)",
            "as many target rows as source rows",
            f"{source.shape[-2]} and {target.shape[-2]}",
            "row i of one must belong to row i of the other",
        )
