# SPDX-License-Identifier: Apache-2.0
r"""Are there enough anchors? How the held-out error falls from half of them to all.

The error of a fit on n independent anchors is, to first order,
:math:`r(n) = r_\infty + c / n`: what no map of the kind can get below, and what more
anchors would still gain. Two points of the curve give both.

Reference: Amari, Murata, "Statistical theory of learning curves under entropic loss
criterion", 1993.
"""

import jax.numpy as jnp
from jaxtyping import Bool, Float

from jaxalign.array_types import Array
from jaxalign.pytrees import pytree_dataclass

# Anchors a direction from which on half of them err by the law. With 24 anchors of 16
# directions it would ask for 16,000 more where 200 are enough; with 60, for 340.
_FEWEST_A_DIRECTION = 3

# A gain below this share of the target's spread is none worth having.
SMALLEST_GAIN = 1e-3


@pytree_dataclass
class LearningCurve:
    """Two points of the held-out error, and what follows from them; all scalars.

    Attributes:
      at_half: relative held-out error of maps fitted on half the blocks.
      at_all: of the map itself, fitted on all anchors.
      limit: estimate for any number of anchors, not below 0.
      more: estimate of how many more anchors bring the error within the tolerance of
        its limit; 0 if there are enough.
      at_least: whether `more` is only a lower bound, since there are fewer than three
        anchors a direction, so that half of them do not tell how errors fall.
    """

    at_half: Float[Array, ""]
    at_all: Float[Array, ""]
    limit: Float[Array, ""]
    more: Float[Array, ""]
    at_least: Bool[Array, ""]


def learning_curve(
    at_half, at_most, *, share, anchors, directions: int, tolerance
) -> LearningCurve:
    """Extrapolate the held-out error to all anchors and beyond.

    Args:
      at_half: relative held-out error of fits on half the blocks.
      at_most: the same of fits on `share` of them.
      share: below 1 and above one half.
      anchors: how many there are.
      directions: static; how many a map has to determine.
      tolerance: enough is a gain below this share of the limit, or below
        0.001 of the target's spread.

    Returns:
      The curve.
    """
    # r = limit + c / share of the anchors
    fall = jnp.maximum((at_half - at_most) / (2.0 - 1.0 / share), 0.0)
    limit = jnp.maximum(at_most - fall / share, 0.0)
    allowed = jnp.maximum(tolerance * limit, SMALLEST_GAIN)
    enough = fall <= allowed
    anchors = anchors.astype(fall.dtype)
    more = jnp.where(enough, 0.0, anchors * (fall / allowed - 1.0))
    once = directions + 1.0 - anchors
    missing = _FEWEST_A_DIRECTION * (directions + 1.0) - anchors
    at_least = ~enough & (missing > 0)
    bound = jnp.where(once > 0, once, jnp.minimum(more, missing))
    return LearningCurve(
        at_half=at_half,
        at_all=limit + fall,
        limit=limit,
        more=jnp.where(at_least, bound, more),
        at_least=at_least,
    )
