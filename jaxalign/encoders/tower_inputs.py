# SPDX-License-Identifier: Apache-2.0
"""Entry checks of what the towers take: one error each, which says what to do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import ArrayLike
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
    if not _is_array_of(pixels, jnp.floating):
        raise ValueError(
            "`encode_image(pixels=...)` expected a NumPy or JAX array of floating, "
            f"normalised pixels, got {_kind(pixels)}; use `embed_images` for pictures "
            "as they are, or pass np.asarray(pixels, np.float32)."
        )
    if pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
        raise ValueError(
            f"`encode_image(pixels=...)` expected shape (n, {size}, {size}, 3) for "
            f"{name}, got {tuple(pixels.shape)}; use `embed_images`, which "
            "preprocesses pictures of any size."
        )
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
    if not _is_array_of(ids, jnp.integer):
        raise ValueError(
            "`encode_text(ids=...)` expected a NumPy or JAX array of integers, got "
            f"{_kind(ids)}; use `embed_texts`, which tokenizes strings, or pass "
            "np.asarray(ids, np.int32)."
        )
    if ids.ndim != 2 or not 1 <= ids.shape[1] <= length:
        raise ValueError(
            f"`encode_text(ids=...)` expected shape (n, t), t from 1 to {length} for "
            f"{name}, got {tuple(ids.shape)}; use `embed_texts`, which tokenizes and "
            "cuts."
        )
    # Reading a JAX array would wait for its device, and fails under jit.
    if not isinstance(ids, np.ndarray) or ids.size == 0:
        return ids
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocabulary:
        raise ValueError(
            f"`encode_text(ids=...)` expected ids in [0, {vocabulary}) for {name}, got "
            f"ids from {low} to {high}; use the tokenizer that belongs to the "
            "checkpoint."
        )
    return ids if ids.dtype.isnative else ids.astype(ids.dtype.newbyteorder("="))


def check_mask(mask: Any, ids: ArrayLike) -> None:
    """Validate the mask of `encode_text`: None, or bool and of the shape of the ids.

    Raises:
      ValueError: for anything else.
    """
    if mask is None:
        return
    if not _is_array_of(mask, jnp.bool_):
        raise ValueError(
            "`encode_text(mask=...)` expected a bool array, True where a token may "
            f"look, got {_kind(mask)}; pass np.asarray(mask) == 1 for one of zeros and "
            "ones."
        )
    if mask.shape != ids.shape:
        raise ValueError(
            f"`encode_text(mask=...)` expected the shape of ids, {ids.shape}, got "
            f"{mask.shape}; pass the mask that came with the ids, or None."
        )


def _is_array_of(value: Any, kind: Any) -> bool:
    """Tell whether a value is an array without a mask, of one kind of dtype."""
    return (
        isinstance(value, jax.Array | np.ndarray)
        and not isinstance(value, np.ma.MaskedArray)
        and jnp.issubdtype(value.dtype, kind)
    )


def _kind(value: Any) -> str:
    """Name an array's dtype, or the type of what is no plain array."""
    plain = isinstance(value, jax.Array | np.ndarray)
    plain = plain and not isinstance(value, np.ma.MaskedArray)
    return str(value.dtype) if plain else type(value).__name__
