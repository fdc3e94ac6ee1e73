# SPDX-License-Identifier: Apache-2.0
r"""`PoorFitWarning`: a fit that carries held-out anchors no better than their mean.

On its own anchors any map looks well: of shuffled pairs it leaves 0.16 to 0.85 of the
energy. So each half of the anchors is carried by the map of the other half, from the
moments of both. Two numbers spare most fits that: the residual on the anchors, and

.. math:: T = n \|C\|^2 / (E_x E_y)

with C the cross-covariance and E the energies of n centred rows. Of rows that have
nothing to do with each other its mean is 1, and its standard deviation
:math:`\sqrt{2} \|G_x\| \|G_y\| / (E_x E_y)`.

References:
  Escoufier, "Le traitement des variables vectorielles", 1973 (the RV coefficient);
  Gretton et al., "Measuring statistical dependence with Hilbert-Schmidt norms", 2005.
"""

import functools
import warnings
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxalign.anchors.anchors import Anchors
from jaxalign.anchors.folds import fold_rows
from jaxalign.array_types import Modality
from jaxalign.errors import PoorFitWarning
from jaxalign.families.family import Family
from jaxalign.families.mean_only import MeanOnly
from jaxalign.moments import Moments
from jaxalign.moments.pooling import pool_modalities
from jaxalign.precise import product
from jaxalign.solve.scale import Scale, fit_scale, map_residual

# Half of fewer anchors says nothing.
_FEWEST = 20
# Rows that correlate so clearly, and a residual so small, need no second look.
_CLEAR, _SMALL = 20.0, 0.5
_DEVIATIONS = 3.0


def warn_if_poor(
    call: str,
    anchors: Anchors | None,
    pooled: Moments,
    family: Family,
    weights: Mapping[Modality, float],
    residual: float,
    scale: Scale,
    *,
    batch_size: int,
) -> None:
    """Warn where the map carries held-out anchors no better than their mean.

    Args:
      call: named in the warning.
      anchors: that were fitted on, on the host or not; None where only moments came.
      pooled: moments that the matrix was fitted on.
      family: with its strength.
      weights: of the modalities that were fitted on.
      residual: on the anchors, relative to the target energy.
      scale: the rule.
      batch_size: rows a batch.
    """
    if int(pooled.rows) < _FEWEST or isinstance(family, MeanOnly):
        return
    correlated, deviation = (float(one) for one in _dependence(pooled))
    if correlated > _CLEAR and residual < _SMALL:
        return
    by_moments = family.needs != "rows" and family.tuned
    if anchors is None or not by_moments:
        # NaN where the moments hold no Grams: nothing is claimed then.
        if not correlated < 1.0 + _DEVIATIONS * deviation:
            return
        said = "the two sides of these pairs correlate no more than unrelated rows do"
    else:
        left = _held_out(anchors, family, weights, scale, batch_size)
        if not left >= 1.0:
            return
        said = (
            "on held-out anchors the map comes no nearer to the target rows than their "
            f"mean (squared error {left:.2f} of the mean's)"
        )
    warnings.warn(
        f"`{call}`: {said}; check that row i of both sides shows one thing, or pass "
        "more pairs. `ja.judge` tells whether searches find anything.",
        PoorFitWarning,
        stacklevel=4,
    )


@jax.jit
def _dependence(pooled: Moments):
    """T, and its standard deviation among unrelated rows."""
    energies = pooled.source_energy * pooled.target_energy
    squares = jnp.sum(jnp.square(pooled.cross_covariance))
    found = pooled.rows.astype(squares.dtype) * squares / energies
    if pooled.source_gram is None or pooled.target_gram is None:
        return found, jnp.nan
    grams = jnp.sum(pooled.source_gram**2) * jnp.sum(pooled.target_gram**2)
    return found, jnp.sqrt(2.0 * grams) / energies


def _held_out(anchors, family, weights, scale, batch_size) -> float:
    """Squared error of each half by the map of the other, relative to the mean's."""
    halves = anchors.moments(
        grams=True, group=fold_rows(anchors.rows, 2), groups=2, batch_size=batch_size
    )
    halves = {name: halves[name] for name in weights}
    solved = family.solve(pool_modalities(halves, weights))
    isometry = solved.structure == "isometry"
    errors = _errors(
        list(halves.values()),
        solved.matrix,
        solved.directions,
        scale=scale,
        isometry=isometry,
    )
    error, base = (float(sum(part)) for part in zip(*errors, strict=True))
    return error / base


@functools.partial(jax.jit, static_argnames=("scale", "isometry"))
def _errors(halves, matrix, within, *, scale, isometry):
    """Squared errors of the other half, and of the mean, for each modality."""
    found = []
    for part in halves:
        factor = fit_scale(part, matrix, scale=scale, isometry=isometry, within=within)
        factor = jnp.nan_to_num(factor)
        other = jax.tree.map(lambda leaf: leaf[::-1], part)
        error = map_residual(other, matrix, factor, isometry=isometry)
        # Means of the halves differ: (2, d_target, d_source) @ (2, d_source, 1)
        source_gap = other.source_mean - part.source_mean
        target_gap = other.target_mean - part.target_mean
        moved = factor[:, None] * product(matrix, source_gap[..., None])[..., 0]
        error += other.count * jnp.sum(jnp.square(target_gap - moved), axis=1)
        base = other.target_energy
        base += other.count * jnp.sum(jnp.square(target_gap), axis=1)
        found.append((jnp.sum(error), jnp.sum(base)))
    return found
