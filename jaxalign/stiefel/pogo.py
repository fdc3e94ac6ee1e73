# SPDX-License-Identifier: Apache-2.0
"""POGO: a tangent step, then one Newton-Schulz step back to the manifold.

Reference: Javaloy and Vergari, "An embarrassingly simple way to optimize orthogonal
matrices at scale", 2026, arXiv 2602.14656.
"""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.precise import product
from jaxalign.stiefel.feasibility import init_feasibility, update_feasibility
from jaxalign.stiefel.leaves import check_points, check_updates, map_points
from jaxalign.stiefel.polar_step import if_needed
from jaxalign.stiefel.precision import (
    Precision,
    choose_product,
    rough_product,
)
from jaxalign.stiefel.shapes import flip
from jaxalign.stiefel.steps import as_params

# Newton-Schulz carries squared singular values in (0, 3) towards one: an excess over
# one of less than 2 is safe. What is longer is shortened somewhat more.
_SAFE = 1.9
_LONGEST = 1.5


def orthonormalize_updates(
    *, precision: Precision = "full"
) -> optax.GradientTransformationExtraArgs:
    r"""Follow tangent updates by a Newton-Schulz step to the manifold; must be last.

    An update :math:`U` at a point :math:`X` (with orthonormal rows, here) becomes
    :math:`X_+ - X` with

    .. math:: M = X + U, \quad X_+ = M + \tfrac12 (I - M M^\top) M.

    Args:
      precision: static; with ``"mixed"`` the second product has operands in bfloat16.
        It is a correction: an error of 2^-8 of it is left to the next step's.

    Returns:
      A transformation with a `Feasibility` record, as of `retract_updates`. Its `init`
      refuses parameters that are not orthonormal, its `update` needs `params`.

    Notes:
      Two products. With singular values :math:`s` of :math:`U`, those of :math:`X_+`
      are within :math:`\tfrac34 s^4` of one: an error of fourth order in the step,
      which the next step squares once more, so that drift does not add up. Steps of
      :math:`s \ge \sqrt 2` would lose the point, and the sign of its determinant:
      they are shortened, by a bound of :math:`\|U U^\top\|_2` from above that takes a
      rough product more where the step may be that long, and always for batches.
      `retract_updates("polar")` takes steps of any length.

    References:
      Javaloy and Vergari, 2026, arXiv 2602.14656.
    """
    rough = choose_product(precision)

    def init(params):
        check_points("orthonormalize_updates", params)
        return init_feasibility(params)

    def update(updates, state, params=None, **extra):
        del extra
        params = check_updates("orthonormalize_updates", params)
        found = map_points(
            lambda change, point: _step(point, change, rough), updates, params
        )
        steps = as_params(found, params)
        return steps, update_feasibility("orthonormalize_updates", state, params, steps)

    return optax.GradientTransformationExtraArgs(init, update)


def _step(
    point: Float[Array, "*batch rows columns"],
    change: Float[Array, "*batch rows columns"],
    rough: Callable[[Array, Array], Array],
) -> Float[Array, "*batch rows columns"]:
    """Return the step from `point`, for points of any shape."""
    if point.shape[-2] > point.shape[-1]:
        return flip(_step(flip(point), flip(change), rough))
    moved = point + change
    # (rows, columns) @ (columns, rows)
    gram = product(moved, flip(moved))
    excess = gram - jnp.broadcast_to(
        jnp.eye(gram.shape[-1], dtype=gram.dtype), gram.shape
    )
    bound = _norm_bound(excess)
    share = jnp.where(bound > _SAFE, jnp.sqrt(_LONGEST / bound), 1.0)
    # At an orthonormal point the excess of a tangent step goes by its square.
    correction = rough(share**2 * excess, point + share * change)
    return share * change - 0.5 * correction


def _norm_bound(excess):
    """Bound the spectral norms from above, closely where they may not be safe."""
    frobenius = _frobenius(excess)

    def closer():
        # |E|_2 <= |E^2|_F^(1/2), with room for the product's rounding.
        unit = excess / jnp.maximum(frobenius, 1.0)
        squared = _frobenius(rough_product(unit, unit))
        return (1.02 * frobenius * jnp.sqrt(squared + 2.0**-12),)

    if excess.ndim > 2:
        # Whether any entry needs it would be asked of all devices of a split batch.
        (bound,) = closer()
    else:
        (bound,) = if_needed(frobenius[0, 0] > _SAFE, closer, (frobenius,))
    return jnp.minimum(bound, frobenius)


def _frobenius(matrix):
    """Frobenius norm, kept as a 1 x 1 matrix."""
    return jnp.linalg.norm(matrix, axis=(-2, -1), keepdims=True)
