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

# Rows may be shorter or longer than every anchor by this factor.
ROOM = 2.0


def norms_from_mean(
    count: Float[ArrayLike, ""],
    mean: Float[ArrayLike, " d"],
    energy: Float[ArrayLike, ""],
) -> Float[Array, "3"]:
    """Estimate the norms of rows that are known by their moments alone.

    The root mean square norm is exact; the extremes are taken as half and twice it.

    Args:
      count: sum of the weights.
      mean: of the rows.
      energy: sum of squared norms about the mean.
    """
    typical = jnp.sqrt(energy / count + jnp.sum(jnp.square(mean)))
    return typical * jnp.asarray([0.5, 1.0, 2.0], typical.dtype)


def norm_range(rows: Float[Array, "n d"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the smallest and largest norm, of rows finite and not zero alone.

    Padding is zero, and a row that is not finite has no norm. Without any row left the
    range is empty: infinity to 0.
    """
    wide = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
    norms = jnp.linalg.norm(wide, axis=-1)
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
    low, high = float(low), float(high)
    shortest, typical, longest = (float(norm) for norm in np.asarray(norms, np.float64))
    too_short = low < shortest / ROOM and not centred
    if not (too_short or high > longest * ROOM):
        return
    raise ValueError(
        f"`{call}`: expected norms between {shortest / ROOM:.3g} and "
        f"{longest * ROOM:.3g}, as the map was fitted on rows of norm {typical:.3g}, "
        f"got norms from {low:.3g} to {high:.3g}; pass normalize_input=True to bring "
        "rows to that norm, or rows scaled as the anchors were."
    )


def rescale_rows(
    rows: Float[Array, "n d"], norms: Float[ArrayLike, "3"] | None
) -> Float[Array, "n d"]:
    """Bring rows to the anchors' root mean square norm, or to norm 1 if unknown."""
    length = jnp.linalg.norm(rows, axis=-1, keepdims=True)
    units = rows / jnp.maximum(length, float(jnp.finfo(rows.dtype).tiny))
    if norms is None:
        return units
    return units * jnp.asarray(norms, rows.dtype)[1]
