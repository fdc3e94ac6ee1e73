# SPDX-License-Identifier: Apache-2.0
"""Norms of the anchors' rows: what tells rows of another scale from the map's own.

A map fitted on unit rows carries raw features of norm 10 to the wrong place, since the
means that it subtracts are those of unit rows. So a map keeps, for each modality and
side, the smallest, the root mean square and the largest norm of its anchors.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.unit_rows import unit_rows

# Rows may be shorter or longer than every anchor by this factor.
ROOM = 2.0


def anchor_norms(
    count: ArrayLike,
    mean: ArrayLike,
    energy: ArrayLike,
    extremes: tuple[float, float] | None = None,
) -> Float[np.ndarray, "3"]:
    """Return the smallest, root mean square and largest norm of rows, from moments.

    Args:
      count: sum of the weights.
      mean: of the rows, ``(d,)``.
      energy: sum of squared norms about the mean.
      extremes: smallest and largest norm, if the rows were at hand; otherwise half and
        twice the root mean square stand for them.
    """
    dtype = np.asarray(mean).dtype
    count, mean, energy = (np.asarray(one, np.float64) for one in (count, mean, energy))
    typical = np.sqrt(energy / count + np.sum(np.square(mean)))
    low, high = (typical / 2, typical * 2) if extremes is None else extremes
    return np.array([low, typical, high], dtype)


def norm_range(rows: Float[Array, "n d"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the smallest and largest norm, of rows finite and not zero alone.

    The rows are in float32 or better. Padding is zero, and a row that is not finite has
    no norm. Without any row left the range is empty: infinity to 0.
    """
    norms = jnp.linalg.norm(rows, axis=-1)
    counted = jnp.isfinite(norms) & (norms > 0)
    low = jnp.min(jnp.where(counted, norms, jnp.inf), initial=jnp.inf)
    return low, jnp.max(jnp.where(counted, norms, 0.0), initial=0.0)


def check_norms(
    call: str,
    low: Float[ArrayLike, ""],
    high: Float[ArrayLike, ""],
    norms: Float[ArrayLike, "3"],
    *,
    centred: bool = False,
) -> None:
    """Raise ValueError for rows whose norms lie far outside those of the anchors.

    Args:
      call: named in the error, with the argument.
      low: smallest norm of the rows.
      high: largest norm of the rows.
      norms: of the anchors, as the map keeps them.
      centred: whether the rows may be centred, and so shorter than any anchor.
    """
    shortest_row, longest_row = float(low), float(high)
    shortest, typical, longest = (float(norm) for norm in np.asarray(norms, np.float64))
    too_short = shortest_row < shortest / ROOM and not centred
    if not (too_short or longest_row > longest * ROOM):
        return
    raise ArgumentError(
        call,
        f"norms between {shortest / ROOM:.3g} and {longest * ROOM:.3g}, as the map was "
        f"fitted on rows of norm {typical:.3g}",
        f"norms from {shortest_row:.3g} to {longest_row:.3g}",
        "pass normalize_input=True (for an index, to `prepare`) to bring rows to that "
        "norm, or rows scaled as the anchors were",
    )


def rescale_rows(
    rows: Float[Array, "n d"], norms: Float[ArrayLike, "3"] | None
) -> Float[Array, "n d"]:
    """Bring rows to the anchors' root mean square norm, or to norm 1 if unknown."""
    units = unit_rows(rows)
    if norms is None:
        return units
    return units * jnp.asarray(norms, rows.dtype)[1]
