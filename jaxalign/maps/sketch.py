# SPDX-License-Identifier: Apache-2.0
r"""A sketch of the rows that a map was fitted on: whose rows come, is told from it.

Where both models have one width, nothing but a sketch tells rows of the source model
from those of the target's: a file of 2026 that is carried the wrong way comes out as
numbers like any others. Beside means and norms, which the map has anyway, it holds the
16 leading directions V of the centred rows of each side, and what is left of them,

.. math:: l = \sum_i |(I - V V^\top) (x_i - m)|^2 / n

Rows of another side lie farther from the mean, and off the directions: of them more is
left, by the sketch of this side, than of its own rows.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike, Modality
from jaxalign.families.scorer import Side
from jaxalign.moments import Moments
from jaxalign.precise import product

DIRECTIONS = 16
CLEARLY = 1.5
"""Factor by which the sketch of the own side must leave more than the other's."""

_BY_ROWS = ((8 * DIRECTIONS, DIRECTIONS), (32, 4))
# Columns beside those that are wanted, and rounds, of the subspace iteration.
_MORE, _ROUNDS = 8, 12


class Sketch(NamedTuple):
    """Leading directions of one side's rows about their mean, and what they leave.

    Attributes:
      directions: orthonormal rows, ``(k, d)``, float16 in a map's file.
      left: mean squared norm of a centred row outside them; not negative.
    """

    directions: Float[ArrayLike, "k d"]
    left: float


Sketches = Mapping[Modality, Mapping[Side, Sketch]]
"""By modality and side."""


def sketch_moments(moments: Moments) -> dict[Side, Sketch]:
    """Sketch both sides from moments, without leading axes; {} where they lack Grams.

    Args:
      moments: of one modality. Cost O(d^2) a direction and round.
    """
    if moments.source_gram is None or moments.target_gram is None:
        return {}
    found: dict[Side, Sketch] = {}
    rows = int(moments.rows)
    # Directions of few rows are those of their noise, and leave too little of them.
    most = next((most for fewest, most in _BY_ROWS if rows >= fewest), 0)
    for side in ("source", "target"):
        gram = getattr(moments, f"{side}_gram")
        kept = min(most, gram.shape[-1] // 4)
        directions, left = jax.device_get(_leading(gram, moments.count, kept=kept))
        found[side] = Sketch(directions.astype(np.float16), float(left))
    return found


@functools.partial(jax.jit, static_argnames="kept")
def _leading(gram, count, *, kept):
    """Leading eigenvectors of a Gram matrix by subspace iteration, as rows."""
    width = gram.shape[-1]
    columns = min(width, kept + _MORE)
    # Any start will do but a special one; the same for everyone.
    start = jax.random.normal(jax.random.key(0), (width, columns), gram.dtype)

    def step(_, basis):
        return jnp.linalg.qr(product(gram, basis))[0]

    basis = jax.lax.fori_loop(0, _ROUNDS, step, jnp.linalg.qr(start)[0])
    # (c, d) @ (d, d) @ (d, c)
    values, turned = jnp.linalg.eigh(product(basis.T, product(gram, basis)))
    directions = product(basis, turned[:, ::-1][:, :kept])
    left = jnp.trace(gram) - jnp.sum(values[::-1][:kept])
    return directions.T, jnp.maximum(left, 0.0) / count


def left_over(
    sketch: Sketch, mean: Float[ArrayLike, " d"], rows: Float[ArrayLike, "n d"]
) -> float:
    """How much of rows a sketch leaves, relative to the rows that it was made of.

    Args:
      sketch: of one side.
      mean: of that side.
      rows: ``(n, d)``, at least one; rows that are not finite are left out.

    Returns:
      About 1 for rows like those of the sketch; NaN without a finite row.
    """
    rows = jnp.asarray(rows)
    total, count = _left(
        rows, jnp.asarray(mean), jnp.asarray(sketch.directions, jnp.float32)
    )
    floor = float(np.finfo(np.float32).eps)
    with np.errstate(invalid="ignore"):
        found = np.asarray(total) / np.asarray(count)
    return float(found / max(sketch.left, floor))


@jax.jit
def _left(rows, mean, directions):
    """Sum of the squared norms that are left of finite rows, and their number."""
    rows = rows.astype(directions.dtype)
    good = jnp.all(jnp.isfinite(rows), axis=1)
    centred = jnp.where(good[:, None], rows, mean[None, :]) - mean[None, :]
    inside = product(centred, directions.T)
    squares = jnp.sum(centred**2, axis=1) - jnp.sum(inside**2, axis=1)
    return jnp.sum(jnp.maximum(squares, 0.0)), jnp.sum(good)


def fits_other_side(own: float, other: float) -> bool:
    """Whether rows are clearly those of the other side, by `left_over` of both.

    >>> fits_other_side(4.0, 1.1), fits_other_side(1.2, 1.1)
    (True, False)
    """
    return own > CLEARLY * max(other, 1.0)


def unit_scale(
    rows: Float[ArrayLike, "n d"], norm: float | Float[Array, ""]
) -> Float[np.ndarray, "n d"]:
    """Bring rows to one norm, on the host: a sketch compares shapes, not lengths."""
    rows = np.asarray(rows, np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows * (float(norm) / np.maximum(norms, np.finfo(np.float32).tiny))
