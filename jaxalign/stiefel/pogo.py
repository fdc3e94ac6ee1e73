# SPDX-License-Identifier: Apache-2.0
"""POGO: a tangent step, then one Newton-Schulz step back to the manifold.

Reference: Javaloy and Vergari, "An embarrassingly simple way to optimize orthogonal
matrices at scale", 2026, arXiv 2602.14656.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.stiefel.leaves import check_points, check_updates, map_points
from jaxalign.stiefel.steps import as_params

_HIGHEST = jax.lax.Precision.HIGHEST

# Newton-Schulz carries squared singular values in (0, 3) towards one.
_LONGEST = 1.0


def orthonormalize_updates() -> optax.GradientTransformationExtraArgs:
    r"""Follow tangent updates by one Newton-Schulz step to the manifold; goes last.

    An update :math:`U` at a point :math:`X` (with orthonormal rows, here) becomes
    :math:`X_+ - X` with

    .. math:: M = X + U, \quad X_+ = M + \tfrac12 (I - M M^\top) M.

    Returns:
      A transformation without state. Its `init` refuses parameters that are not
      orthonormal, its `update` needs `params`.

    Notes:
      Two products. With singular values :math:`s` of :math:`U`, those of :math:`X_+`
      are within :math:`\tfrac34 s^4` of one: an error of fourth order in the step,
      which the next step squares once more, so that drift does not add up. Steps of
      :math:`s \ge \sqrt 2` would lose the point, and the sign of its determinant:
      longer ones than :math:`\|U U^\top\| = 1`, by a bound that costs no product, are
      shortened. `retract_updates("polar")` takes steps of any length.

    References:
      Javaloy and Vergari, 2026, arXiv 2602.14656.
    """

    def init(params):
        check_points("orthonormalize_updates", params)
        return optax.EmptyState()

    def update(updates, state, params=None, **extra):
        del extra
        check_updates("orthonormalize_updates", params)
        found = map_points(lambda change, point: _step(point, change), updates, params)
        return as_params(found, params), state

    return optax.GradientTransformationExtraArgs(init, update)


def _step(
    point: Float[Array, "*batch rows columns"],
    change: Float[Array, "*batch rows columns"],
) -> Float[Array, "*batch rows columns"]:
    """Return the step from `point`, for points of any shape."""
    if point.shape[-2] > point.shape[-1]:
        return _turn(_step(_turn(point), _turn(change)))
    moved = point + change
    # (rows, columns) @ (columns, rows)
    gram = jnp.matmul(moved, _turn(moved), precision=_HIGHEST)
    excess = gram - jnp.broadcast_to(
        jnp.eye(gram.shape[-1], dtype=gram.dtype), gram.shape
    )
    # Both norms are at least the spectral one.
    frobenius = jnp.linalg.norm(excess, axis=(-2, -1), keepdims=True)
    row_sums = jnp.max(
        jnp.sum(jnp.abs(excess), axis=-1, keepdims=True), axis=-2, keepdims=True
    )
    length = jnp.minimum(frobenius, row_sums)
    share = jnp.minimum(1.0, jnp.sqrt(_LONGEST / jnp.maximum(length, _LONGEST)))
    # At an orthonormal point the excess of a tangent step goes by its square.
    correction = jnp.matmul(share**2 * excess, point + share * change, precision=_HIGHEST)
    return share * change - 0.5 * correction


def _turn(matrix):
    """Transpose the last two axes."""
    return jnp.swapaxes(matrix, -1, -2)
