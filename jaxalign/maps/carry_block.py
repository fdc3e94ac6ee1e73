# SPDX-License-Identifier: Apache-2.0
"""A block of rows through a map, in one program of one shape.

Blocks lie on a fixed grid of row numbers and the last is padded, so that a row's bits
depend on neither batches nor parts of files, nor on where a killed run goes on.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import Array, ArrayLike, Modality
from jaxalign.float_rows import wide_dtype
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.encode import encode_side
from jaxalign.maps.norms import norm_range, rescale_rows
from jaxalign.maps.numbers import MapPart, apply_part
from jaxalign.precise import product
from jaxalign.unit_rows import unit_rows

Form = Literal["rows", "search"]

# Rows of a block: what comes and goes stays in the cache.
BLOCK = 1024


class Block(NamedTuple):
    """Carried rows on their way to a file.

    Attributes:
      rows: ``(BLOCK, width)`` in the dtype wanted; NaN where a row that came is not
        finite or is zero.
      range: smallest and largest norm of the rows that came, and the largest entry of
        those that go.
    """

    rows: Array
    range: Array


def block_carrier(
    amap: AlignmentMap,
    modality: Modality,
    *,
    form: Form,
    normalize: bool,
    normalize_input: bool,
    dtype: np.dtype,
) -> Callable[[ArrayLike], Block]:
    """Return what carries ``(BLOCK, d_source)`` rows.

    Args:
      amap: the map.
      modality: of the rows, one that the map holds.
      form: "rows" of the target space, or where "search" compares them.
      normalize: divide each row that comes out by its norm.
      normalize_input: bring each row to the norm of the anchors first.
      dtype: of what comes out.
    """
    part = amap.numbers.part(modality)
    part = jax.tree.map(lambda leaf: leaf.astype(wide_dtype(leaf.dtype)), part)
    options: dict[str, Any] = {"normalize_input": normalize_input, "dtype": dtype}
    if form == "search":

        def encode(rows: ArrayLike) -> Block:
            units = rescale(rows, part.source_norms, normalize_input=normalize_input)
            encoded = encode_side(amap, units, modality, "source")
            return _finish(rows, encoded, dtype=dtype)

        return encode
    if part.residual is not None:
        return functools.partial(_carry_by_part, part, normalize=normalize, **options)
    scaled = part.scale * part.matrix
    offset = part.target_mean - product(scaled, part.source_mean)
    return functools.partial(
        _carry, scaled, offset, part.source_norms, normalize=normalize, **options
    )


def encoded_carrier(
    encode: Callable[[Array], Array],
    amap: AlignmentMap,
    modality: Modality,
    *,
    normalize_input: bool,
    dtype: np.dtype,
) -> Callable[[ArrayLike], Block]:
    """Return what brings ``(BLOCK, d_source)`` rows to where `encode` puts them.

    Args:
      encode: takes rows of the anchors' norms, and carries each as it would alone.
      amap: the map, for these norms.
      modality: of the rows.
      normalize_input: bring each row to the norm of the anchors first.
      dtype: of what comes out.
    """
    norms = amap.numbers.part(modality).source_norms

    def carry(rows: ArrayLike) -> Block:
        units = rescale(rows, norms, normalize_input=normalize_input)
        return _finish(rows, encode(units), dtype=dtype)

    return carry


@functools.partial(jax.jit, static_argnames=("normalize", "normalize_input", "dtype"))
def _carry(matrix, offset, norms, rows, *, normalize, normalize_input, dtype) -> Block:
    """Carry rows where the map is a matrix: a product and a sum."""
    wide = rows.astype(matrix.dtype)
    given = wide
    if normalize_input:
        given = rescale_rows(wide, norms)
    # (n, d_source) @ (d_source, d_target)
    moved = product(given, matrix.T) + offset[None, :]
    if normalize:
        moved = unit_rows(moved)
    return _block(wide, moved, dtype)


@functools.partial(jax.jit, static_argnames=("normalize", "normalize_input", "dtype"))
def _carry_by_part(part: MapPart, rows, *, normalize, normalize_input, dtype) -> Block:
    """Carry rows by any map."""
    wide = rows.astype(part.matrix.dtype)
    moved = apply_part(
        part, wide, normalize=normalize, normalize_input=normalize_input
    ).rows
    return _block(wide, moved, dtype)


@functools.partial(jax.jit, static_argnames=("normalize_input",))
def rescale(rows, norms, *, normalize_input):
    """Return rows in float32 or better, at the anchors' norm if wanted."""
    rows = jnp.asarray(rows)
    rows = rows.astype(wide_dtype(rows.dtype))
    return rescale_rows(rows, norms) if normalize_input else rows


@functools.partial(jax.jit, static_argnames=("dtype",))
def _finish(rows, moved, *, dtype) -> Block:
    """Put carried rows into a block."""
    rows = jnp.asarray(rows)
    return _block(rows.astype(wide_dtype(rows.dtype)), moved, dtype)


def _block(rows: Array, moved: Array, dtype: np.dtype) -> Block:
    """Mark the rows that cannot be carried, and convert."""
    norms = jnp.linalg.norm(rows, axis=-1)
    good = (jnp.isfinite(norms) & (norms > 0))[:, None]
    low, high = norm_range(rows)
    largest = jnp.max(jnp.where(good, jnp.abs(moved), 0.0))
    moved = jnp.where(good, moved, jnp.nan)
    kept = jax.dtypes.canonicalize_dtype(dtype.newbyteorder("="))
    return Block(moved.astype(kept), jnp.stack([low, high, largest]))
