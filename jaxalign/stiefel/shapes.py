# SPDX-License-Identifier: Apache-2.0
"""Points as they come and as they are computed with: checked, tall, widened.

What the rest of this folder begins and ends with. A point with fewer rows than columns
is the transpose of a tall one, and so are its tangent vectors.
"""

from typing import Any

import jax.numpy as jnp

from jaxalign.array_types import Array
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import wide_dtype


def check_point(call: str, point: Any, name: str = "point") -> None:
    """Raise unless `point` is a floating matrix or a stack of them."""
    shape = getattr(point, "shape", (type(point).__name__,))
    dtype = getattr(point, "dtype", None)
    floating = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
    if len(shape) < 2 or 0 in shape[-2:] or not floating:
        raise ArgumentError(
            f"{call}({name}=...)",
            "a floating array of shape (..., rows, columns)",
            f"{dtype} of shape {shape}",
            "pass a matrix such as `random_point(key, (d_target, d_source))`",
        )


def check_pair(call: str, name: str, point: Any, vector: Any) -> None:
    """Raise unless `vector` has the shape of its point."""
    check_point(call, point)
    check_point(call, vector, name)
    if point.shape != vector.shape:
        raise ArgumentError(
            f"{call}({name}=...)",
            f"the point's shape {point.shape}",
            vector.shape,
            "broadcast the two first",
        )


def as_tall(array: Array) -> Array:
    """Transpose a wide matrix, and widen half precision to float32."""
    array = array.astype(wide_dtype(array.dtype))
    return flip(array) if array.shape[-2] < array.shape[-1] else array


def as_given(tall: Array, point: Array) -> Array:
    """Undo `as_tall`: the point's orientation and dtype."""
    found = flip(tall) if point.shape[-2] < point.shape[-1] else tall
    return found.astype(point.dtype)


def flip(matrix: Array) -> Array:
    """Transpose of the last two axes."""
    return jnp.swapaxes(matrix, -1, -2)
