# SPDX-License-Identifier: Apache-2.0
"""Least squares and ridge from moments: the real competitor of an orthogonal map.

Reference: Hoerl and Kennard, "Ridge regression: biased estimation for nonorthogonal
problems", 1970.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.moments import Moments
from jaxalign.pytrees import pytree_dataclass
from jaxalign.solve.gram_spectrum import GramSpectrum, check_grams
from jaxalign.solve.scale import map_residual
from jaxalign.status import Checked, Status


@pytree_dataclass
class LinearSolution(Checked):
    """Best linear map for a batch of moments.

    Attributes:
      matrix: shape ``(*batch, d_target, d_source)``, on centred rows.
      ridge: its strength, relative to the mean eigenvalue, ``(*batch)``.
      rank: of the source Gram, ``(*batch)``, int32.
      residual: sum of squared errors over the anchors, penalty left out, ``(*batch)``.
      status: `Status` codes, ``(*batch)``.
    """

    made_by: ClassVar[str] = "solve_linear"

    matrix: Float[Array, "*batch d_target d_source"]
    ridge: Float[Array, "*batch"]
    rank: Int[Array, "*batch"]
    residual: Float[Array, "*batch"]
    status: Int[Array, "*batch"]


def solve_linear(
    moments: Moments, *, ridge: float | Float[ArrayLike, ""]
) -> LinearSolution:
    r"""Solve ridge regression from accumulated moments, batched over leading axes.

    With centred anchors :math:`x_i`, :math:`y_i`, minimises
    :math:`\sum_i |M x_i - y_i|^2 + \lambda |M|_F^2`, so that
    :math:`M = C (G_x + \lambda I)^{-1}` with ``moments.cross_covariance`` :math:`C` and
    ``moments.source_gram`` :math:`G_x`. The strength ``ridge`` is relative to the mean
    eigenvalue of the source Gram: :math:`\lambda = \mathrm{ridge} \cdot
    \mathrm{tr}(G_x) / d_{source}`, which means the same for any number of anchors.

    Args:
      moments: of the anchors, made with ``grams=True``.
      ridge: strength, at least 0. At 0 it is least squares, of minimum norm where the
        anchors do not determine it, as far as the Gram can tell (see Notes).

    Returns:
      The solution; ``matrix`` has the shape of the cross-covariance.

    Raises:
      ValueError: if `moments` holds no Grams, or `ridge` is negative.

    Notes:
      Solved in the eigenbasis of :math:`G_x`. At ``ridge=0`` eigenvalues below
      ``d * eps`` of the largest are left out, since they are rounding: for embeddings
      in float32 that can be most of them, a regularised map in effect. Enable x64 to
      resolve smaller ones, or solve from rows by `solve_least_squares`. Status is
      RANK_DEFICIENT only there: a positive ridge makes the solution unique. Cost
      O(d^3).

    References:
      Hoerl and Kennard, "Ridge regression", Technometrics, 1970.

    >>> from jaxalign.moments import init_moments, update_moments
    >>> rows = jnp.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    >>> empty = init_moments(2, 2, grams=True)
    >>> solution = solve_linear(update_moments(empty, rows, 3.0 * rows), ridge=0.0)
    >>> bool(jnp.allclose(solution.matrix, 3.0 * jnp.eye(2), atol=1e-5))
    True
    """
    check_grams("solve_linear", moments)
    if isinstance(ridge, float | int) and not ridge >= 0:
        raise ArgumentError(
            f"solve_linear(ridge={ridge})",
            "a number of at least 0",
            remedy="0 is least squares, and 0.1 a mild ridge",
        )
    return _solve(moments, ridge)


@jax.jit
def _solve(moments, ridge):
    """Solve in the eigenbasis of the source Gram."""
    strength = jnp.full_like(moments.count, ridge)
    spectrum = GramSpectrum.of(moments)
    matrix = spectrum.matrix(strength)
    rank = jnp.sum(spectrum.kept, axis=-1, dtype=jnp.int32)
    rank = jnp.minimum(rank, jnp.maximum(moments.rows - 1, 0))
    finite = jnp.all(jnp.isfinite(matrix), axis=(-2, -1))
    short = (strength == 0) & (rank < moments.d_source)
    return LinearSolution(
        matrix=matrix,
        ridge=strength,
        rank=rank,
        residual=map_residual(
            moments, matrix, jnp.ones_like(moments.count), isometry=False
        ),
        status=jnp.select(
            [~finite, moments.rows < 2, short],
            [
                jnp.int32(Status.NON_FINITE),
                jnp.int32(Status.TOO_FEW_ANCHORS),
                jnp.int32(Status.RANK_DEFICIENT),
            ],
            jnp.int32(Status.OK),
        ),
    )
