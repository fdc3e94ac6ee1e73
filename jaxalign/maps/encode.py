# SPDX-License-Identifier: Apache-2.0
"""Rows of either side where a search compares them, and the anchors a map keeps there.

With a scorer, that is its common width. Without one it is the target space: source rows
are carried, target rows centred and projected on what the map reaches, both unit rows.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxalign.anchors.anchors import Anchors
from jaxalign.array_types import Array, ArrayLike, Modality
from jaxalign.buckets import first_rows, pad_to_bucket
from jaxalign.families.scorer import Side, encode_rows
from jaxalign.float_rows import wide_dtype
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.numbers import apply_part
from jaxalign.precise import product
from jaxalign.unit_rows import unit_rows

MOST_ANCHORS = 2000
_SEED = 0


def keeps_part(amap: AlignmentMap) -> bool:
    """Whether the matrix reaches a part of the target space only, isometrically."""
    whole = amap.d_source >= amap.d_target and amap.structure == "isometry"
    return amap.structure in ("isometry", "partial_isometry") and not whole


def encode_side(
    amap: AlignmentMap, rows: Float[ArrayLike, "n d"], modality: Modality, side: Side
) -> Float[Array, "n width"]:
    """Bring rows to where searches compare them; nothing is checked."""
    numbers, padded = amap.numbers, pad_to_bucket(rows)
    if amap.scorer is not None:
        of_source = side == "source"
        means = numbers.source_means if of_source else numbers.target_means
        found = encode_rows(
            amap.scorer.source if of_source else amap.scorer.target,
            means[modality],
            amap.scorer.source_norm if of_source else amap.scorer.target_norm,
            padded,
        )
    elif side == "source":
        part = numbers.part(modality)
        found = apply_part(part, padded, normalize=True, add=False).rows
    else:
        onto = amap.matrix if keeps_part(amap) else None
        found = centred_units(padded, numbers.target_means[modality], onto)
    return first_rows(found, rows.shape[0])


def with_anchors(amap: AlignmentMap, anchors: Anchors, most: int) -> AlignmentMap:
    """Add encoded anchors to a map, which offsets of any index are measured by.

    Args:
      amap: fitted on the anchors.
      anchors: paired rows, and those of a modality without pairs.
      most: rows a modality and side; drawn by a fixed seed beyond. 0 keeps none. Rows
        that other processes hold are not kept.
    """
    if not most:
        return amap
    kept: dict[Modality, dict[Side, np.ndarray]] = {}

    def keep(name: Modality, side: Side, rows: ArrayLike) -> None:
        encoded = np.asarray(encode_side(amap, rows, name, side))
        largest = float(np.finfo(np.float16).max)
        encoded = np.clip(encoded, -largest, largest)
        kept.setdefault(name, {})[side] = encoded.astype(np.float16)

    for name, pairs in anchors.rows.items():
        if not _at_hand(pairs.source, pairs.target):
            continue
        used = np.arange(len(pairs))
        used = used if pairs.mask is None else used[np.asarray(pairs.mask) > 0]
        own = pairs.take(_draw(used, most))
        keep(name, "source", own.source)
        keep(name, "target", own.target)
    for name, sides in anchors.unpaired.items():
        if not _at_hand(*(side.rows for side in sides.values())):
            continue
        for side in ("source", "target"):
            good = np.flatnonzero(np.asarray(sides[side].good))
            keep(name, side, sides[side].rows[_draw(good, most)])
    return dataclasses.replace(amap, encoded=kept)


def _at_hand(*sides: ArrayLike) -> bool:
    """Whether this process holds all rows: others' cannot be read here."""
    return all(
        not isinstance(side, jax.Array) or side.is_fully_addressable for side in sides
    )


def _draw(numbers: np.ndarray, most: int) -> np.ndarray:
    """Draw at most so many numbers, in order."""
    if len(numbers) <= most:
        return numbers
    return np.sort(np.random.default_rng(_SEED).permutation(numbers)[:most])


@jax.jit
def centred_units(
    rows: Float[ArrayLike, "n d"],
    mean: Float[Array, " d"] | None,
    matrix: Float[Array, "d d_source"] | None,
) -> Float[Array, "n d"]:
    """Unit rows, about a mean and within the range of a matrix."""
    rows = jnp.asarray(rows)
    rows = rows.astype(wide_dtype(rows.dtype))
    if mean is not None:
        dtype = np.promote_types(rows.dtype, mean.dtype)
        rows = rows.astype(dtype) - mean.astype(dtype)[None, :]
    if matrix is not None:
        matrix = matrix.astype(rows.dtype)
        if rows.shape[0] < matrix.shape[0]:
            # (n, d_target) @ (d_target, d_source) @ (d_source, d_target)
            rows = product(product(rows, matrix), matrix.T)
        else:
            # The projector first: one product of many rows.
            rows = product(rows, product(matrix, matrix.T))
    return unit_rows(rows)
