# SPDX-License-Identifier: Apache-2.0
"""Rows as users bring them: one check of type, dtype and shape for every entry.

`float_rows` validates what came and returns an array that JAX can take. JAX itself
would drop an imaginary part in silence, read quantised integers as if they were
values, and end in a TypeError of its own for the other byte order.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import ArrayLike


def float_rows(
    call: str, argument: str, rows: Any, *, width: int | None = None
) -> ArrayLike:
    """Validate a matrix of real floating rows and return it as an array.

    Args:
      call: named in the error, such as ``"top_k"``.
      argument: named in the error, such as ``"queries"``.
      rows: ``(n, d)``: a JAX array (traced too), a NumPy array (memory-mapped too), or
        an object that converts to one by ``numpy.asarray``, such as a torch tensor.
      width: expected ``d``; None: any.

    Returns:
      A JAX or NumPy array, without a copy unless the dtype needs a conversion, see
      `native_floats`.

    Raises:
      ValueError: if `rows` is no array, not two-dimensional, of another width, or not
        of a real floating dtype.
    """
    return native_floats(check_float_rows(call, argument, rows, width=width))


def check_float_rows(
    call: str, argument: str, rows: Any, *, width: int | None = None
) -> ArrayLike:
    """Validate rows as `float_rows` does, but convert no dtype.

    For rows that are too many to convert at once: apply `native_floats` to each batch.
    """
    if width is None:
        expected = "(n, d)"
    else:
        expected = f"(n, {width})"
    array = _as_array(call, argument, rows, expected)
    check_floating(call, argument, array)
    if array.ndim != 2 or (width is not None and array.shape[1] != width):
        raise ValueError(
            f"`{call}({argument}=...)`: expected shape {expected}, got {array.shape}; "
            "pass one embedding a row, of the right model."
        )
    return array


def check_floating(call: str, argument: str, array: ArrayLike) -> None:
    """Raise ValueError unless the dtype is real and floating, of any precision."""
    dtype = array.dtype
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(
            f"`{call}({argument}=...)`: expected rows without a mask, got a masked "
            "array; drop the masked rows on both sides, or give them weight 0."
        )
    if jnp.issubdtype(dtype, jnp.floating):
        return
    remedy = "convert the rows with `rows.astype(numpy.float32)`"
    if jnp.issubdtype(dtype, jnp.complexfloating):
        remedy = "take the real part, or stack real and imaginary parts as columns"
    elif jnp.issubdtype(dtype, jnp.integer):
        remedy = (
            "if they are quantised, restore their values first: multiply "
            "`rows.astype(numpy.float32)` by their scale"
        )
    raise ValueError(
        f"`{call}({argument}=...)`: expected real floating rows, got {dtype}; {remedy}."
    )


def native_floats(array: ArrayLike) -> ArrayLike:
    """Return floating values in a dtype that JAX takes; no copy if they have one.

    The other byte order is swapped, and a long double becomes float64.
    """
    if not isinstance(array, np.ndarray):
        return array
    if array.dtype.char in "gG":
        return array.astype(np.float64)
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    return array


def wide_dtype(dtype: Any) -> np.dtype:
    """Return the dtype to compute in for values of a floating `dtype`: float32 or more.

    >>> wide_dtype(jnp.bfloat16), wide_dtype(np.float64)
    (dtype('float32'), dtype('float64'))
    """
    return np.dtype(np.float32 if jnp.finfo(dtype).bits < 32 else dtype)


def _as_array(call: str, argument: str, rows: Any, expected: str) -> ArrayLike:
    """Return an array as it is, and convert what offers to be converted."""
    if isinstance(rows, jax.Array | np.ndarray):
        return rows
    if hasattr(rows, "__array__"):
        try:
            return np.asarray(rows)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"`{call}({argument}=...)`: expected an array of shape {expected}, got "
                f"{type(rows).__name__} that NumPy cannot read ({error}); bring it to "
                "the host as float32 first."
            ) from error
    raise ValueError(
        f"`{call}({argument}=...)`: expected an array of shape {expected}, got "
        f"{type(rows).__name__}; convert it with `numpy.asarray(rows, numpy.float32)`."
    )


def float_array(
    call: str, argument: str, value: Any, *, axes: int, expected: str
) -> ArrayLike:
    """Validate an array of real floating numbers, as `float_rows` does a matrix.

    Args:
      call: named in the error, such as ``"polar_factor"``.
      argument: named in the error, such as ``"matrix"``.
      value: an array, or what converts to one; see `float_rows`.
      axes: the least number of them.
      expected: the shape, for the error, such as ``"(..., rows, columns)"``.

    Raises:
      ValueError: if `value` is no array, has fewer axes, or is not of a real floating
        dtype.
    """
    array = _as_array(call, argument, value, expected)
    check_floating(call, argument, array)
    if array.ndim < axes:
        raise ValueError(
            f"`{call}({argument}=...)`: expected shape {expected}, got {array.shape}."
        )
    return native_floats(array)
