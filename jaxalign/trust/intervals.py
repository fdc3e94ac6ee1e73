# SPDX-License-Identifier: Apache-2.0
"""Intervals from an estimate, its bias and its standard error, by Student's t.

Both ways to error bars, resampling and the delta method, end here: centre and spread
are taken on a scale where errors are nearly symmetric, and carried back.
"""

import statistics

import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.errors import ArgumentError
from jaxalign.pytrees import pytree_dataclass


@pytree_dataclass
class Interval:
    """An estimate between two bounds.

    Attributes:
      estimate: corrected for bias, shape ``(*g)``.
      low: lower bound, ``(*g)``.
      high: upper bound, ``(*g)``.
    """

    estimate: Float[Array, "*g"]
    low: Float[Array, "*g"]
    high: Float[Array, "*g"]


def student_interval(centre, error, dof, *, level: float, back) -> Interval:
    """Make a two-sided t interval and carry it back by an increasing function.

    Args:
      centre: on the symmetric scale, corrected for bias.
      error: standard error there.
      dof: degrees of freedom.
      level: static; share of cases in which the truth lies inside.
      back: increasing function from the symmetric scale.

    Returns:
      The interval.
    """
    half = t_quantile(0.5 * (1.0 + level), dof) * error
    return Interval(
        estimate=back(centre), low=back(centre - half), high=back(centre + half)
    )


def t_quantile(share: float, dof) -> Float[Array, "*g"]:
    """Quantile of Student's t by its expansion in ``1 / dof``.

    Args:
      share: static; between 0 and 1.
      dof: degrees of freedom, array; from 5 on right to 0.5 % for shares to 0.995.

    Returns:
      The quantile, of the shape of `dof`.

    References:
      Abramowitz, Stegun, "Handbook of mathematical functions", 1964, 26.7.5.
    """
    z = statistics.NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    inverse = 1.0 / jnp.maximum(dof, jnp.ones_like(dof))
    total = jnp.full_like(inverse, z)
    for power, term in enumerate(terms, start=1):
        total = total + term * inverse**power
    return total


def check_level(call: str, level: float) -> None:
    """Raise unless `level` is above 0.5 and below 1."""
    if not 0.5 < level < 1:
        raise ArgumentError(
            f"{call}(level={level})", "above 0.5 and below 1", remedy="0.95 is usual"
        )
