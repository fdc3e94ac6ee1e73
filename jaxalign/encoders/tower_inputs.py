# SPDX-License-Identifier: Apache-2.0
"""Entry checks of what the towers take: one error each, which says what to do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import native_floats


def take_pixels(pixels: Any, *, size: int, name: str) -> ArrayLike:
    """Validate the pixels of `encode_image`; return them in a dtype that JAX takes.

    Args:
      pixels: to be an array (n, size, size, 3), floating.
      size: pixels of either side that the model takes.
      name: of the model.

    Raises:
      ValueError: for anything else.
    """
    call = "encode_image(pixels=...)"
    remedy = "use `embed_images` for pictures, or pass np.asarray(pixels, np.float32)"
    expected = "a NumPy or JAX array of floating, normalised pixels"
    _check_array(call, pixels, jnp.floating, expected, remedy)
    if pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
        expected = f"shape (n, {size}, {size}, 3) for {name}"
        remedy = "use `embed_images`, which preprocesses pictures of any size"
        raise ArgumentError(call, expected, tuple(pixels.shape), remedy)
    return native_floats(pixels)


def take_ids(ids: Any, *, length: int, vocabulary: int, name: str) -> ArrayLike:
    """Validate the token ids of `encode_text`; return them in a dtype that JAX takes.

    Args:
      ids: to be an array (n, t) of integers, t from 1 to `length`.
      length: most tokens of a text.
      vocabulary: number of ids that the model knows; NumPy ids are compared with it.
      name: of the model.

    Raises:
      ValueError: for anything else.
    """
    call = "encode_text(ids=...)"
    remedy = "use `embed_texts` for strings, or pass np.asarray(ids, np.int32)"
    _check_array(call, ids, jnp.integer, "a NumPy or JAX array of integers", remedy)
    if ids.ndim != 2 or not 1 <= ids.shape[1] <= length:
        expected = f"shape (n, t), t from 1 to {length} for {name}"
        remedy = "use `embed_texts`, which tokenizes and cuts"
        raise ArgumentError(call, expected, tuple(ids.shape), remedy)
    # Reading a JAX array would wait for its device, and fails under jit.
    if not isinstance(ids, np.ndarray) or ids.size == 0:
        return ids
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocabulary:
        expected = f"ids in [0, {vocabulary}) for {name}"
        remedy = "use the tokenizer that belongs to the checkpoint"
        raise ArgumentError(call, expected, f"ids from {low} to {high}", remedy)
    return ids if ids.dtype.isnative else ids.astype(ids.dtype.newbyteorder("="))


def check_mask(mask: Any, ids: ArrayLike) -> None:
    """Validate the mask of `encode_text`: None, or bool and of the shape of the ids.

    Raises:
      ValueError: for anything else.
    """
    if mask is None:
        return
    call = "encode_text(mask=...)"
    expected = "a bool array, True where a token may look"
    remedy = "pass np.asarray(mask) == 1 for one of zeros and ones"
    _check_array(call, mask, jnp.bool_, expected, remedy)
    if mask.shape != ids.shape:
        remedy = "pass the mask that came with the ids, or None"
        raise ArgumentError(call, f"the shape of ids, {ids.shape}", mask.shape, remedy)


def _check_array(call: str, value: Any, kind: Any, expected: str, remedy: str) -> None:
    """Raise unless a value is an array without a mask, of one kind of dtype."""
    is_plain = isinstance(value, jax.Array | np.ndarray)
    is_plain = is_plain and not isinstance(value, np.ma.MaskedArray)
    if not is_plain:
        raise ArgumentError(call, expected, type(value).__name__, remedy)
    if not jnp.issubdtype(value.dtype, kind):
        raise ArgumentError(call, expected, value.dtype, remedy)
