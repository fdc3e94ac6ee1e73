# SPDX-License-Identifier: Apache-2.0
"""Scale, energy and residual of a map whose matrix is known, from moments.

Reference: Schoenemann and Carroll, "Fitting one matrix to another under choice of a
central dilation and a rigid motion", 1970 (the least-squares scale).
"""

import typing
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.moments import Moments
from jaxalign.precise import product

Scale = Literal["none", "least_squares", "energy"]
SCALES: tuple[str, ...] = typing.get_args(Scale)

ORTHOGONAL_SCALE: Scale = "energy"
"""Default of `fit_map` for an orthogonal map, and so of all that judges such a map."""


class Directions(NamedTuple):
    """Directions of both sides that a map keeps; columns beyond the rank are zero.

    Attributes:
      target: U, orthonormal columns, ``(*batch, d_target, k)``, k the smaller width.
      source: V, ``(*batch, d_source, k)``.
      rank: how many, ``(*batch)``, int32.
    """

    target: Float[Array, "*batch d_target k"]
    source: Float[Array, "*batch d_source k"]
    rank: Int[Array, "*batch"]


def projected_energy(
    moments: Moments, matrix: Float[ArrayLike, "*batch d_target d_source"]
) -> Float[Array, "*batch"] | None:
    r"""Sum the squared norms of the centred source rows after ``matrix``.

    This is :math:`\mathrm{tr}(Q G_x Q^\top)`; None if it takes a Gram that the moments
    do not hold. For orthonormal columns it is the source energy itself.
    """
    if moments.source_gram is None:
        return None
    # (..., d_target, d_source) @ (..., d_source, d_source)
    turned = product(matrix, moments.source_gram)
    return jnp.sum(turned * matrix, axis=(-2, -1))


def fit_scale(
    moments: Moments,
    rotation: Float[ArrayLike, "*batch d_target d_source"],
    *,
    scale: Scale,
    isometry: bool = True,
    within: Directions | None = None,
) -> Float[Array, "*batch"]:
    r"""Fit the factor of rows that `rotation` already turns, by the rule `scale`.

    The moments need not be those that `rotation` was fitted on: a map has one rotation
    and a scale per modality.

    Args:
      moments: of the rows to be scaled.
      rotation: shape ``(..., d_target, d_source)``.
      scale: static; see `solve_procrustes`.
      isometry: static; whether `rotation` has orthonormal columns or rows. If not, the
        moments must hold Grams.
      within: directions that the fit determines, or None. Where they are not all, the
        rule "energy" is
        :math:`\sqrt{\mathrm{tr}(U^\top G_y U) / \mathrm{tr}(V^\top G_x V)}`, of rows
        projected on them, and NaN if the moments hold no Grams; the other rules do not
        read them.

    Returns:
      The factor, shape ``(...)``; NaN or infinite if the rows have no spread.

    Raises:
      ValueError: if the energy of the rotated rows takes a Gram that is missing.
    """
    if scale == "none":
        return jnp.ones_like(moments.source_energy)
    energy = _rotated_energy(moments, rotation, isometry)
    if energy is None:
        raise ArgumentError(
            f"fit_scale(scale={scale!r})",
            "moments with Gram matrices for a map from width "
            f"{moments.d_source} to {moments.d_target} that is no isometry of all rows",
            "none",
            "make them by `init_moments(..., grams=True)`, or pass scale='none'",
        )
    if scale == "least_squares":
        return _inner(rotation, moments.cross_covariance) / energy
    whole = moments.target_energy / energy
    if within is None:
        return jnp.sqrt(whole)
    short = within.rank < within.target.shape[-1]
    if moments.source_gram is None:
        return jnp.where(short, jnp.nan, jnp.sqrt(whole))
    along = _energy_along(moments.target_gram, within.target)
    along = along / _energy_along(moments.source_gram, within.source)
    return jnp.sqrt(jnp.where(short, along, whole))


def map_residual(
    moments: Moments,
    matrix: Float[ArrayLike, "*batch d_target d_source"],
    scale: Float[ArrayLike, "*batch"],
    *,
    isometry: bool = True,
) -> Float[Array, "*batch"]:
    """Sum the squared errors of ``scale * matrix`` over the anchors of the moments.

    NaN where the energy takes a Gram that the moments do not hold.
    """
    energy = _rotated_energy(moments, matrix, isometry)
    if energy is None:
        return jnp.full_like(moments.source_energy, jnp.nan)
    fit = _inner(matrix, moments.cross_covariance)
    residual = moments.target_energy + scale * (scale * energy - 2.0 * fit)
    # A perfect fit is a difference of equal sums: rounding may take it below 0.
    return jnp.maximum(residual, jnp.zeros_like(residual))


def _rotated_energy(moments, matrix, isometry):
    """Energy of the rows after `matrix`, by the source energy where that is exact."""
    if isometry and moments.d_source <= moments.d_target:
        return moments.source_energy
    return projected_energy(moments, matrix)


def _energy_along(gram, basis):
    """Energy of rows with that Gram matrix, projected on orthonormal columns."""
    # (..., d, d) @ (..., d, k)
    return _inner(basis, product(gram, basis))


def _inner(left, right):
    """Frobenius inner product over the last two axes."""
    return jnp.sum(left * right, axis=(-2, -1))
