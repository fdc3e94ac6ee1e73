# SPDX-License-Identifier: Apache-2.0
"""Both components of the orthogonal group: no step leads from one to the other.

A descent that starts where det Q has the wrong sign ends at distance 2 from the
optimum, and looks converged. So a fit of square points starts in both.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError, check_option
from jaxalign.float_rows import wide_dtype
from jaxalign.precise import product
from jaxalign.stiefel.measures import PointTree
from jaxalign.stiefel.shapes import as_tall, check_point, flip


def component(point: Float[ArrayLike, "*batch rows columns"]) -> Int[Array, "*batch"]:
    """Tell which of the two parts of the orthogonal group a square point lies in.

    Args:
      point: shape ``(..., rows, columns)``.

    Returns:
      The sign of the determinant, +1 or -1, shape ``(...)``; 0 for a point that is not
      square, whose manifold is in one piece, and where it is not finite.

    Raises:
      ArgumentError: if `point` is no floating matrix.

    Notes:
      No retraction leaves the component that it started in. Cost O(d^3), one LU
      factorisation.

    >>> int(component(jnp.diag(jnp.array([1.0, -1.0]))))
    -1
    """
    check_point("component", point)
    return _component(jnp.asarray(point))


@jax.jit
def _component(point):
    """Sign of the determinant."""
    if point.shape[-2] != point.shape[-1]:
        return jnp.zeros(point.shape[:-2], jnp.int32)
    sign, size = jnp.linalg.slogdet(as_tall(point))
    # The sign of NaN factors says nothing; their logarithm shows them.
    return jnp.where(jnp.isfinite(size), sign, 0.0).astype(jnp.int32)


def reflect(
    point: Float[ArrayLike, "*batch d d"],
) -> Float[Array, "*batch d d"]:
    """Cross to the other component of the orthogonal group: negate the first column.

    Args:
      point: square, shape ``(..., d, d)``.

    Returns:
      A point of the opposite determinant.

    Raises:
      ArgumentError: if `point` is not square.

    >>> int(component(reflect(jnp.eye(2))))
    -1
    """
    check_point("reflect", point)
    if point.shape[-2] != point.shape[-1]:
        raise ArgumentError(
            "reflect(point=...)",
            "square matrices",
            f"shape {point.shape}",
            "points of unequal sides form one component, and need no reflection",
        )
    return jnp.asarray(point).at[..., :, 0].multiply(-1)


def choose_components(
    init: PointTree,
    components: Literal["both", "given"] | None,
    *,
    resumed: bool,
) -> Literal["both", "given"]:
    """Return what is to be tried: both, where that is possible and nothing is asked.

    Raises:
      ArgumentError: if both are asked of what is not one square point, or of a resumed
        fit, whose state belongs to one component.
    """
    leaves = jax.tree.leaves(init)
    square = len(leaves) == 1 and leaves[0].shape[-2] == leaves[0].shape[-1]
    check_option("fit", "components", components, ("both", "given", None))
    if components == "both" and resumed:
        raise ArgumentError(
            "fit(components='both')",
            "a fit from the start",
            "a `state`, which belongs to one component",
            "leave `components` out",
        )
    if components == "both" and not square:
        raise ArgumentError(
            "fit(components='both')",
            "one square point, or a batch of them",
            f"shapes {[leaf.shape for leaf in leaves]}",
            "points of unequal sides form one component, and of several points start "
            "each from a closed form: leave `components` out",
        )
    return components or ("both" if square and not resumed else "given")


def enter_other(
    point: Float[Array, "*batch d d"], gradient: Float[Array, "*batch d d"]
) -> Float[Array, "*batch d d"]:
    r"""Reflect points to the other component, where the objective likes it best.

    With ``point`` :math:`X` and Euclidean ``gradient`` :math:`G`, the reflection
    :math:`X (I - 2 v v^\top)` changes the objective by
    :math:`-2 v^\top X^\top G v` to first order: :math:`v` is the leading eigenvector of
    :math:`\mathrm{sym}(X^\top G)`. From the Procrustes optimum of one component this
    leads to that of the other.

    Args:
      point: square, orthonormal.
      gradient: of the objective there.

    Returns:
      Points of the opposite determinant.

    Notes:
      One symmetric eigendecomposition a point.
    """
    wide = wide_dtype(point.dtype)
    inner = product(flip(point).astype(wide), gradient)
    _, vectors = jnp.linalg.eigh(0.5 * (inner + flip(inner)))
    leading = vectors[..., -1:]
    # (d, d) @ (d, 1), then (d, 1) @ (1, d)
    image = product(point, leading)
    return (point - 2.0 * image * flip(leading)).astype(point.dtype)


def determinant_sign(point: PointTree, batch: int) -> Int[Array, "*batch"]:
    """Sign of the determinant of each problem's point; 0 where it has none, or many."""
    leaves = jax.tree.leaves(point)
    if len(leaves) == 1 and leaves[0].ndim == batch + 2:
        return component(leaves[0])
    return jnp.zeros(leaves[0].shape[:batch], jnp.int32)
