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
from jaxalign.stiefel.steps import as_params, newton_schulz_step

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
      Four products: X'X, G'X, and two of the longer side.

    References:
      Ablin and Peyre, 2022, arXiv 2102.07432; Ablin et al., 2023, arXiv 2303.16510.
    """

    def init(params):
        check_points("to_landing_field", params)
        return optax.EmptyState()

    def update(updates, state, params=None, **extra):
        del extra
        params = check_updates("to_landing_field", params)
        found = map_points(
            lambda gradient, point: _field(point, gradient, attraction), updates, params
        )
        return found, state

    return optax.GradientTransformationExtraArgs(init, update)


def limit_landing_step(
    radius: float | Array = 0.5,
) -> optax.GradientTransformationExtraArgs:
    r"""Shorten steps that would leave the neighbourhood of the manifold; goes last.

    The orthogonality error after a share :math:`t` of a step :math:`U` from
    :math:`X` is at most :math:`(1 - t) \delta_0 + t \delta_1 + t (1 - t) \|U\|_F^2`,
    where :math:`\delta_0` and :math:`\delta_1` are :math:`\|X^\top X - I\|_F` before
    and after the whole step. The largest share that this bound keeps within ``radius``
    :math:`\epsilon` is taken; from beyond :math:`0.9 \epsilon` the step is one of
    Newton-Schulz towards the manifold instead. So singular values stay away from zero,
    and with them the sign of the determinant, whatever the learning rate.

    Args:
      radius: :math:`\epsilon`, in (0, 1).

    Returns:
      A transformation without state; its `update` needs `params`.

    Notes:
      Two products and one more for the Newton-Schulz step; the compiler shares one of
      them with `to_landing_field`.

    References:
      Ablin and Peyre, 2022, arXiv 2102.07432, who bound the learning rate instead.
    """

    def update(updates, state, params=None, **extra):
        del extra
        params = check_updates("limit_landing_step", params)

        def limited(change, point):
            before, after = _distance(point), _distance(point + change)
            square = jnp.sum(jnp.square(change), axis=(-2, -1), keepdims=True)
            room = (radius - before) / jnp.maximum(after - before + square, 1e-30)
            share = jnp.where(after <= radius, 1.0, jnp.clip(room, 0.0, 1.0))
            # NaN compares false: a step that is not finite is seen, not hidden.
            back = newton_schulz_step(point) - point
            return jnp.where(before > 0.9 * radius, back, share * change)

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
    gram, identity = _product(_turn(point), point), _identity(point)
    mixed = _product(_turn(gradient), point)
    # (rows, columns) @ (columns, columns), twice
    along = _product(point, attraction * (gram - identity) - 0.5 * mixed)
    return 0.5 * _product(gradient, gram) + along


def _distance(point):
    """Frobenius norm of the orthogonality error along the shorter side."""
    if point.shape[-2] < point.shape[-1]:
        point = _turn(point)
    excess = _product(_turn(point), point) - _identity(point)
    return jnp.linalg.norm(excess, axis=(-2, -1), keepdims=True)


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
