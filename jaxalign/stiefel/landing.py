# SPDX-License-Identifier: Apache-2.0
"""Landing: descent that need not stay on the manifold, and is drawn to it.

No retraction and no factorisation: products alone. References: Ablin and Peyre, "Fast
and accurate optimization on the orthogonal manifold without retraction", 2022, arXiv
2102.07432; Ablin, Vary, Gao, Absil, "Infeasible deterministic, stochastic, and variance
reduction algorithms for optimization under orthogonality constraints", 2023, arXiv
2303.16510 (tall points).
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.stiefel.leaves import check_points, check_updates, map_points
from jaxalign.stiefel.steps import as_params

_HIGHEST = jax.lax.Precision.HIGHEST


def to_landing_field(
    attraction: float | Array = 1.0,
) -> optax.GradientTransformationExtraArgs:
    r"""Turn Euclidean gradients into the landing field.

    With gradient :math:`G` at a point :math:`X` near the manifold and ``attraction``
    :math:`\lambda`,

    .. math::

        \Lambda(X) = \mathrm{skew}(G X^\top) X + \lambda X (X^\top X - I).

    The first part leaves :math:`X^\top X` as it is to first order, the second draws it
    to the identity; they are orthogonal to each other.

    Args:
      attraction: :math:`\lambda`, positive. Weighed against the gradient: of the order
        of its norm per column.

    Returns:
      A transformation without state; its `update` needs `params`.

    Notes:
      Three products for square points, four for others.

    References:
      Ablin and Peyre, 2022, arXiv 2102.07432; Ablin et al., 2023, arXiv 2303.16510.
    """

    def init(params):
        check_points("to_landing_field", params)
        return optax.EmptyState()

    def update(updates, state, params=None, **extra):
        del extra
        check_updates("to_landing_field", params)
        found = map_points(
            lambda gradient, point: _field(point, gradient, attraction), updates, params
        )
        return found, state

    return optax.GradientTransformationExtraArgs(init, update)


def limit_landing_step(
    radius: float | Array = 0.5,
) -> optax.GradientTransformationExtraArgs:
    r"""Shorten steps that could leave the neighbourhood of the manifold; goes last.

    With :math:`\delta = \|X^\top X - I\|_F`, a step :math:`U` along the landing field
    ends at most :math:`\delta + \|U\|_F^2` from the manifold, so it is scaled by
    :math:`\min(1, \sqrt{\epsilon - \delta} / (2 \|U\|_F))`: the iterates stay within
    ``radius`` :math:`\epsilon < 1`, singular values away from zero, and with them the
    sign of the determinant.

    Args:
      radius: :math:`\epsilon`, in (0, 1).

    Returns:
      A transformation without state; its `update` needs `params`.

    Notes:
      Holds for learning rate times attraction up to 1/2. Two products, of which the
      compiler shares one with `to_landing_field`.

    References:
      Ablin and Peyre, 2022, arXiv 2102.07432, proposition 2.
    """

    def update(updates, state, params=None, **extra):
        del extra
        check_updates("limit_landing_step", params)

        def limited(change, point):
            excess = _excess(point)
            distance = jnp.linalg.norm(excess, axis=(-2, -1), keepdims=True)
            room = jnp.sqrt(jnp.maximum(radius - distance, 0.0))
            length = jnp.linalg.norm(change, axis=(-2, -1), keepdims=True)
            share = jnp.minimum(1.0, 0.5 * room / jnp.maximum(length, 1e-30))
            return share * change

        return as_params(map_points(limited, updates, params), params), state

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update
    )


def _field(
    point: Float[Array, "*batch rows columns"],
    gradient: Float[Array, "*batch rows columns"],
    attraction: float | Array,
) -> Float[Array, "*batch rows columns"]:
    """Compute the landing field of points of any shape."""
    if point.shape[-2] < point.shape[-1]:
        return _turn(_field(_turn(point), _turn(gradient), attraction))
    identity = _identity(point)
    if point.shape[-2] == point.shape[-1]:
        # (d, d) @ (d, d), twice, then once more on both parts
        turning = _product(gradient, _turn(point))
        outer = _product(point, _turn(point))
        pull = 0.5 * (turning - _turn(turning)) + attraction * (outer - identity)
        return _product(pull, point)
    gram, mixed = _product(_turn(point), point), _product(_turn(gradient), point)
    # (rows, columns) @ (columns, columns), twice
    along = _product(point, attraction * (gram - identity) - 0.5 * mixed)
    return 0.5 * _product(gradient, gram) + along


def _excess(point):
    """How far the Gram matrix of the shorter side is from the identity."""
    if point.shape[-2] <= point.shape[-1]:
        return _product(point, _turn(point)) - _identity(_turn(point))
    return _product(_turn(point), point) - _identity(point)


def _identity(point):
    """Identity of the columns' width, with the batch axes of `point`."""
    width = point.shape[-1]
    return jnp.broadcast_to(
        jnp.eye(width, dtype=point.dtype), (*point.shape[:-2], width, width)
    )


def _turn(matrix):
    """Transpose the last two axes."""
    return jnp.swapaxes(matrix, -1, -2)


def _product(left, right):
    """Matrix product in full precision."""
    return jnp.matmul(left, right, precision=_HIGHEST)
