# SPDX-License-Identifier: Apache-2.0
"""Least squares as an objective: what a map to a narrower space really costs.

A projection shortens rows, by an amount that depends on it, so that the closed form by
SVD maximises a trace and not this. Reference: Kiers, "Majorization as a tool for
optimizing a class of matrix functions", 1990.
"""

from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.moments import Moments
from jaxalign.moments.statistics import check_moments
from jaxalign.pytrees import pytree_dataclass
from jaxalign.stiefel.objectives.points import (
    StartsFromCross,
    add,
    as_point,
    inner,
    per_count,
    quadratic_form,
)


@pytree_dataclass
class LeastSquaresObjective(StartsFromCross):
    """Mean squared error of any matrix; make it by its factory.

    Attributes:
      energy: of the target, a mean over anchors, ``(*g)``.
      cross: cross-covariance, a mean, ``(*g, d_target, d_source)``.
      gram: of the source, a mean, ``(*g, d_source, d_source)``.
    """

    energy: Float[Array, "*g"]
    cross: Float[Array, "*g d_target d_source"]
    gram: Float[Array, "*g d_source d_source"]

    def __call__(
        self, point: Float[ArrayLike, "*batch d_target d_source"]
    ) -> Float[Array, "..."]:
        """Value at each point, shape: the leading axes of point and data, broadcast."""
        point = as_point("least_squares_objective", point, self.cross)
        projected = quadratic_form(point, self.gram, None)
        return add(self.energy, projected - 2.0 * inner(point, self.cross))


def least_squares_objective(moments: Moments) -> LeastSquaresObjective:
    r"""Make the objective of least squares from accumulated moments.

    .. math::

        f(Q) = (\mathrm{tr}(Q G_x Q^\top) - 2 \langle Q, C \rangle + E_y) / n
             = \frac1n \sum_i |Q x_i - y_i|^2

    with ``moments.source_gram`` :math:`G_x`, ``moments.cross_covariance`` :math:`C`,
    the energy :math:`E_y` of the centred target rows, and ``moments.count`` :math:`n`.

    Args:
      moments: of the anchors, with Grams; leading axes are problems.

    Returns:
      The objective, at least 0 up to rounding, at any matrix and not on points alone.

    Raises:
      ArgumentError: if `moments` is no `Moments`, or holds no Grams.

    Notes:
      One product, O(d_target d_source^2), an evaluation, with or without the gradient.
      May have local optima where ``d_source > d_target``; there the optimum is what
      ``solve_procrustes(moments, objective="least_squares")`` looks for. Elsewhere it
      is `procrustes_objective` on points, at a higher cost.

    References:
      Kiers, "Majorization as a tool for optimizing a class of matrix functions", 1990.

    >>> import jax.numpy as jnp
    >>> import jaxalign as ja
    >>> rows = jnp.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -2.0]])
    >>> moments = ja.moments.init_moments(2, 1, grams=True)
    >>> moments = ja.moments.update_moments(moments, rows, rows[:, :1])
    >>> abs(float(least_squares_objective(moments)(jnp.array([[1.0, 0.0]])))) < 1e-5
    True
    """
    check_moments("least_squares_objective", moments)
    gram, _ = held_grams("least_squares_objective", moments)
    return LeastSquaresObjective(
        energy=per_count(moments.target_energy, moments.count),
        cross=per_count(moments.cross_covariance, moments.count),
        gram=per_count(gram, moments.count),
    )


def held_grams(
    call: str, moments: Moments
) -> tuple[Float[Array, "*g d_source d_source"], Float[Array, "*g d_target d_target"]]:
    """Take both Grams, or refuse moments that hold none.

    Raises:
      ArgumentError: saying how to get them.
    """
    if moments.source_gram is None or moments.target_gram is None:
        raise ArgumentError(
            f"{call}(moments=...)",
            "moments with Gram matrices",
            "moments without them",
            "make them by `init_moments(..., grams=True)`, or use "
            "`procrustes_objective`, which needs none",
        )
    return moments.source_gram, moments.target_gram
