# SPDX-License-Identifier: Apache-2.0
"""Landing: descent that need not stay on the manifold, but is drawn to it.

No retraction and no factorisation: products alone. References: Ablin and Peyre, "Fast
and accurate optimization on the orthogonal manifold without retraction", 2022, arXiv
2102.07432; Ablin, Vary, Gao, Absil, "Infeasible deterministic, stochastic, and variance
reduction algorithms for optimization under orthogonality constraints", 2023, arXiv
2303.16510 (tall points).
"""

import jax.numpy as jnp
import optax
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.errors import check_number
from jaxalign.precise import product
from jaxalign.stiefel.feasibility import init_feasibility, update_feasibility
from jaxalign.stiefel.leaves import check_points, check_updates, map_points
from jaxalign.stiefel.shapes import flip
from jaxalign.stiefel.steps import as_params


def to_landing_direction() -> optax.GradientTransformationExtraArgs:
    r"""Turn Euclidean gradients into directions along which orthogonality stays.

    With gradient :math:`G` at a point :math:`X` near the manifold the update becomes
    :math:`\mathrm{skew}(G X^\top) X`, which leaves :math:`X^\top X` as it is to first
    order, on the manifold or off it.

    Returns:
      A transformation without state; its `update` needs `params`.

    Notes:
      Two products for square points, four for others.

    References:
      Ablin and Peyre, 2022, arXiv 2102.07432; Ablin et al., 2023, arXiv 2303.16510.
    """

    def init(params):
        check_points("to_landing_direction", params)
        return optax.EmptyState()

    def update(updates, state, params=None, **extra):
        del extra
        params = check_updates("to_landing_direction", params)
        found = map_points(
            lambda gradient, point: _direction(point, gradient), updates, params
        )
        return found, state

    return optax.GradientTransformationExtraArgs(init, update)


def land_updates(
    attraction: float | Array = 1.0, radius: float | Array = 0.5
) -> optax.GradientTransformationExtraArgs:
    r"""Add the pull to the manifold, and keep near it; must be last in a chain.

    An update :math:`U` at :math:`X`, with ``attraction`` :math:`\alpha`, becomes a
    share :math:`t` of

    .. math:: V = U - \tfrac{\alpha}{2} X (X^\top X - I).

    The orthogonality error after it is at most
    :math:`(1 - t) \delta_0 + t \delta_1 + t (1 - t) \|V\|_F^2`, where :math:`\delta_0`
    and :math:`\delta_1` are :math:`\|X^\top X - I\|_F` before and after the whole step.
    A share that this bound keeps within ``radius`` :math:`\epsilon` is taken; from
    beyond :math:`0.9 \epsilon` the step is the pull of :math:`\alpha = 1` alone. So
    singular values stay away from zero, and with them the sign of the
    determinant, whatever the learning rate.

    Args:
      attraction: :math:`\alpha`, 0 to 1: how much of a Newton-Schulz step to the
        manifold each step takes. In the paper's terms, which has the pull scaled with
        the learning rate :math:`\eta`, it is :math:`2 \eta \lambda`.
      radius: :math:`\epsilon`, in (0, 1).

    Returns:
      A transformation with a `Feasibility` record, as of `retract_updates`; its
      `update` needs `params`.

    Raises:
      ArgumentError: for numbers that are no such share and radius.

    Notes:
      Three products.

    References:
      Ablin and Peyre, 2022, arXiv 2102.07432, who bound the learning rate instead.
    """
    # An injected number is an array: what it holds is not known here.
    if isinstance(attraction, float | int):
        check_number("land_updates", "attraction", attraction, least=0.0, most=1.0)
    if isinstance(radius, float | int):
        check_number(
            "land_updates",
            "radius",
            radius,
            above=0.0,
            below=1.0,
            remedy="within 1 no point loses its rank; leave it out for 0.5",
        )

    def update(updates, state, params=None, **extra):
        del extra
        params = check_updates("land_updates", params)

        def landed(change, point):
            excess = _excess(point)
            # The excess is that of the shorter side: it goes to the other side of wide
            # points.
            wide = point.shape[-2] < point.shape[-1]
            pull = product(excess, point) if wide else product(point, excess)
            step = change - 0.5 * attraction * pull
            before, after = _norm(excess), _norm(_excess(point + step))
            room = jnp.maximum(after - before + _norm(step) ** 2, 1e-30)
            share = jnp.clip((radius - before) / room, 0.0, 1.0)
            # NaN compares false: a step that is not finite is seen, not hidden.
            step = jnp.where(after <= radius, step, share * step)
            return jnp.where(before > 0.9 * radius, -0.5 * pull, step)

        steps = as_params(map_points(landed, updates, params), params)
        return steps, update_feasibility("land_updates", state, params, steps)

    return optax.GradientTransformationExtraArgs(init_feasibility, update)


def _direction(
    point: Float[Array, "*batch rows columns"],
    gradient: Float[Array, "*batch rows columns"],
) -> Float[Array, "*batch rows columns"]:
    """Compute skew(G X') X for points of any shape."""
    if point.shape[-2] < point.shape[-1]:
        return flip(_direction(flip(point), flip(gradient)))
    if point.shape[-2] == point.shape[-1]:
        # (d, d) @ (d, d), twice
        turning = product(gradient, flip(point))
        return product(0.5 * (turning - flip(turning)), point)
    gram, mixed = product(flip(point), point), product(flip(gradient), point)
    # (rows, columns) @ (columns, columns), twice
    return 0.5 * (product(gradient, gram) - product(point, mixed))


def _excess(point):
    """How far the Gram matrix of the shorter side is from the identity."""
    if point.shape[-2] < point.shape[-1]:
        point = flip(point)
    gram = product(flip(point), point)
    return gram - jnp.broadcast_to(
        jnp.eye(gram.shape[-1], dtype=gram.dtype), gram.shape
    )


def _norm(matrix):
    """Frobenius norm, kept as a 1 x 1 matrix."""
    return jnp.linalg.norm(matrix, axis=(-2, -1), keepdims=True)
