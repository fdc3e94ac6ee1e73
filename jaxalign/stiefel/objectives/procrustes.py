# SPDX-License-Identifier: Apache-2.0
"""Orthogonal Procrustes as an objective: the one whose optimum is known exactly.

The oracle of every optimiser, from the moments of a pass, without the rows. Reference:
Schoenemann, "A generalized solution of the orthogonal Procrustes problem", 1966.
"""

from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike
from jaxalign.moments import Moments
from jaxalign.moments.statistics import check_moments
from jaxalign.pytrees import pytree_dataclass
from jaxalign.stiefel.objectives.points import (
    StartsFromCross,
    add,
    as_point,
    inner,
    per_count,
)


@pytree_dataclass
class ProcrustesObjective(StartsFromCross):
    """Mean squared error of a map with orthonormal columns; make it by its factory.

    Attributes:
      energy: of both sides, a mean over anchors, ``(*g)``.
      cross: cross-covariance, a mean over anchors, ``(*g, d_target, d_source)``.
    """

    energy: Float[Array, "*g"]
    cross: Float[Array, "*g d_target d_source"]

    def __call__(
        self, point: Float[ArrayLike, "*batch d_target d_source"]
    ) -> Float[Array, "..."]:
        """Value at each point, shape: the leading axes of point and data, broadcast."""
        point = as_point("procrustes_objective", point, self.cross)
        return add(self.energy, -2.0 * inner(point, self.cross))


def procrustes_objective(moments: Moments) -> ProcrustesObjective:
    r"""Make the objective of orthogonal Procrustes from accumulated moments.

    .. math:: f(Q) = (E_x + E_y - 2 \langle Q, C \rangle) / n

    with ``moments.cross_covariance`` :math:`C`, the energies :math:`E_x` and
    :math:`E_y` of centred source and target rows, and ``moments.count`` :math:`n`.
    For orthonormal columns it is the mean of :math:`|Q x_i - y_i|^2`, at least 0 up
    to rounding; where ``d_source > d_target`` it is that of the trace, an upper bound
    of it (`least_squares_objective` is the error itself).

    Args:
      moments: of the anchors; leading axes are problems. No Grams needed.

    Returns:
      The objective; its gradient is the constant :math:`-2 C / n`.

    Raises:
      ArgumentError: if `moments` is no `Moments`.

    Notes:
      O(d^2) an evaluation, with its gradient: no matrix product. The optimum is
      ``closed_form_start()``, unique if C has full rank. Moments of no rows give 0.

    References:
      Schoenemann, "A generalized solution of the orthogonal Procrustes problem", 1966.

    >>> import jax.numpy as jnp
    >>> from jaxalign.moments import init_moments, update_moments
    >>> rows = jnp.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -2.0]])
    >>> moments = update_moments(init_moments(2, 2), rows, rows[:, ::-1])
    >>> objective = procrustes_objective(moments)
    >>> bool(jnp.allclose(objective.closed_form_start(), jnp.eye(2)[::-1], atol=1e-6))
    True
    >>> round(float(objective(jnp.eye(2))), 3)
    4.0
    """
    check_moments("procrustes_objective", moments)
    return ProcrustesObjective(
        energy=per_count(moments.source_energy + moments.target_energy, moments.count),
        cross=per_count(moments.cross_covariance, moments.count),
    )
