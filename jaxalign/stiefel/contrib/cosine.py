# SPDX-License-Identifier: Apache-2.0
"""Cosine of aligned and target rows as an objective: what the paper's tables report.

From rows, each of which counts alike whatever its norm.
"""

import jax.numpy as jnp
from jaxtyping import Float, Shaped

from jaxalign.array_types import Array, ArrayLike
from jaxalign.pytrees import pytree_dataclass
from jaxalign.stiefel.objectives.rows import (
    Centring,
    PreparedRows,
    StartsFromPairs,
    aligned_rows,
    prepare_rows,
    unit_rows,
)


@pytree_dataclass
class CosineObjective(StartsFromPairs):
    """One minus the mean cosine; make it by its factory.

    Attributes:
      rows: prepared.
    """

    rows: PreparedRows

    def __call__(
        self, point: Float[ArrayLike, "*batch d_target d_source"]
    ) -> Float[Array, "..."]:
        """Value at each point, shape: the leading axes of point and data, broadcast."""
        return self.over_rows("cosine_objective", _one, point)


def cosine_objective(
    source: Float[ArrayLike, "*g n d_source"],
    target: Float[ArrayLike, "*g n d_target"],
    *,
    weights: Shaped[ArrayLike, "... n"] | None = None,
    source_mean: Float[ArrayLike, "... d_source"] | None = None,
    target_mean: Float[ArrayLike, "... d_target"] | None = None,
    scale: float | Float[ArrayLike, "..."] = 1.0,
    centring: Centring = "map",
) -> CosineObjective:
    r"""Make the objective of the mean cosine of aligned rows with their partners.

    .. math:: f(Q) = 1 - \sum_i w_i \cos(s Q (x_i - \bar x) + a, z_i) / \sum_i w_i

    with rows :math:`x_i` of ``source``, ``scale`` :math:`s`, and by ``centring``:
    ``"map"`` :math:`a = \bar y, z_i = y_i`; ``"query"`` :math:`a = 0, z_i = y_i`;
    ``"both"`` :math:`a = 0, z_i = y_i - \bar y`, for rows :math:`y_i` of ``target``.

    Args:
      source: ``(..., n, d_source)``, of any norm; leading axes are problems.
      target: ``(..., n, d_target)``; row i belongs to row i of `source`.
      weights: ``(n,)`` or ``(..., n)``, not negative; 0 is padding, which may hold
        anything, NaN too. Default: all 1.
      source_mean: :math:`\bar x`; default: the weighted mean of these rows. Pass zeros
        for no centring, and in a stochastic fit the mean of all rows.
      target_mean: :math:`\bar y`; the same for the target.
      scale: of the rotated rows; what the map will carry.
      centring: static.

    Returns:
      The objective, between 0 and 2; a row without direction has cosine 0.

    Raises:
      ArgumentError: if shapes do not fit, or an option is unknown.

    Notes:
      O(n d_source d_target) an evaluation, twice that with the gradient. Where
      ``d_source <= d_target`` and nothing is added (``"query"``, ``"both"``), norms do
      not depend on Q, and ``closed_form_start()`` is the optimum itself: the polar
      factor of the cross-covariance of unit rows. Otherwise it is near. Rows split
      over devices are summed by one all-reduce.

    References:
      Gupta, Kansal, Jegelka, Isola, Garg, "Canonicalizing Multimodal Contrastive
      Representation Learning", arXiv 2602.17584 (the measure).

    >>> rows = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> objective = cosine_objective(rows, rows[:, ::-1])
    >>> value = objective(jnp.array([[0.0, 1.0], [1.0, 0.0]]))
    >>> abs(float(value)) < 1e-5
    True
    """
    rows = prepare_rows(
        "cosine_objective",
        source,
        target,
        weights=weights,
        source_mean=source_mean,
        target_mean=target_mean,
        scale=scale,
        centring=centring,
        unit=True,
    )
    return CosineObjective(rows)


def _one(point, source, target, added, share):
    """Value of one problem; the target rows are unit rows."""
    aligned = unit_rows(aligned_rows(point, source, added))
    cosines = jnp.sum(aligned * target, axis=-1)
    return jnp.sum(share * (1.0 - cosines))
