# SPDX-License-Identifier: Apache-2.0
"""Random points of the Stiefel manifold, and random directions at them."""

from typing import Any, Literal

import jax
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import wide_dtype
from jaxalign.random_points import draw_orthonormal
from jaxalign.stiefel.geometry import project_tangent
from jaxalign.stiefel.shapes import check_point


def random_point(
    key: jax.Array,
    shape: tuple[int, ...],
    *,
    determinant: Literal[1, -1] | None = None,
    dtype: Any = None,
) -> Float[Array, "*batch rows columns"]:
    """Draw points uniformly (by the Haar measure).

    Args:
      key: of the draw.
      shape: static, ``(*batch, rows, columns)``.
      determinant: static; +1 or -1 for square points of that component alone, by
        default of both; no other points have one.
      dtype: static; floating, by default float32, or float64 when x64 is enabled. Half
        precision is drawn in float32 and rounded.

    Returns:
      The points.

    Raises:
      ArgumentError: if `shape` has no two last axes of at least 1, or `determinant` is
        neither +1 nor -1 or asked of points that are not square.

    >>> import jax.numpy as jnp
    >>> point = random_point(jax.random.key(0), (3, 3), determinant=-1)
    >>> round(float(jnp.linalg.det(point)), 4)
    -1.0
    """
    shape = tuple(shape)
    if len(shape) < 2 or min(shape[-2:]) < 1:
        raise ArgumentError(
            f"random_point(shape={shape})",
            "(..., rows, columns), both at least 1",
            remedy="pass (d_target, d_source)",
        )
    if determinant not in (None, 1, -1) or (
        determinant is not None and shape[-2] != shape[-1]
    ):
        raise ArgumentError(
            f"random_point(determinant={determinant!r})",
            "+1 or -1, and square points",
            f"shape {shape}",
            "leave it out for any point",
        )
    dtype = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
    wide = wide_dtype(dtype)
    drawn = draw_orthonormal(key, shape, determinant=determinant, dtype=wide)
    return drawn.astype(dtype)


def random_tangent(
    key: jax.Array, point: Float[ArrayLike, "*batch rows columns"]
) -> Float[Array, "*batch rows columns"]:
    """Draw standard normal tangent vectors.

    Args:
      key: of the draw.
      point: shape ``(..., rows, columns)``.

    Returns:
      Tangent vectors at `point`, Gaussian of variance 1 in every direction of the
      Euclidean metric; not normalised.

    Raises:
      ArgumentError: if `point` is no floating matrix.

    >>> import jax.numpy as jnp
    >>> turn = random_tangent(jax.random.key(0), jnp.eye(2))
    >>> bool(jnp.isclose(turn[0, 1], -turn[1, 0]))
    True
    """
    check_point("random_tangent", point)
    wide = wide_dtype(point.dtype)
    drawn = jax.random.normal(key, point.shape, wide)
    return project_tangent(point, drawn)
