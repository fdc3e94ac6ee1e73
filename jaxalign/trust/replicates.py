# SPDX-License-Identifier: Apache-2.0
"""Maps refitted under other weights of the blocks, a few at a time, without any row.

Weights of blocks become moments by `reduce_groups`, those become maps by a batched
solve, and of each map only a few numbers are kept.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.moments import Moments, reduce_groups
from jaxalign.precise import product
from jaxalign.solve.procrustes import (
    ProcrustesSolution,
    identified_directions,
    solve_procrustes,
)
from jaxalign.solve.scale import Scale, fit_scale, map_residual
from jaxalign.status import Status
from jaxalign.trust.angles import Angles, map_angles
from jaxalign.trust.blocks import half_samples
from jaxalign.trust.metrics import FitMetrics, to_symmetric

# How far weights go from 1, as a share of a half-sample's. What replicates do is then
# stretched by its inverse. A whole step would fit each map on half the anchors, where
# errors no longer grow in proportion: bounds of angles then hold in 97 to 99 % of cases
# where 95 % were asked for, and with fewer anchors than dimensions nothing is left.
STEP = 0.5


class HeldOutSums(NamedTuple):
    """What a map leaves of rows that it was not fitted on.

    Attributes:
      error: sum of squared errors, ``(*batch)``.
      spread: sum of squared distances from the target mean of the fit, ``(*batch)``:
        the error of a map that knows the mean alone.
    """

    error: Float[Array, "*batch"]
    spread: Float[Array, "*batch"]


def near_weights(groups: int, replicates: int, seed: int) -> Float[np.ndarray, "r g"]:
    """Half-samples drawn `STEP` of the way, (replicates, groups)."""
    halves = half_samples(groups, replicates, seed=seed)
    return 1.0 + STEP * (halves.astype(np.float32) - 1.0)


def over_chunks(function, weights, chunk: int):
    """Apply `function` to `chunk` rows of `weights` at a time, one after another."""
    count, groups = weights.shape
    size = min(chunk, count)
    # Padding repeats the plain fit, which is always possible.
    padded = jnp.pad(weights, ((0, -count % size), (0, 0)), constant_values=1)
    results = jax.lax.map(function, padded.reshape(-1, size, groups))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], results)


def refit(
    blocks: Moments, weights, *, scale: Scale, proper: bool
) -> tuple[Moments, ProcrustesSolution]:
    """Solve for each row of `weights`, (chunk, G)."""
    moments = reduce_groups(blocks, weights)
    return moments, solve_trace(moments, scale=scale, proper=proper)


def solve_trace(moments: Moments, *, scale: Scale, proper: bool) -> ProcrustesSolution:
    """Solve for the map that is assessed: in one step, whatever the widths.

    To fewer dimensions least squares takes hundreds of steps, for each replicate anew.
    """
    found = solve_procrustes(moments, scale=scale, proper=proper, objective="trace")
    if scale != "energy" or moments.source_gram is None:
        return found
    short = found.status == Status.RANK_DEFICIENT
    return jax.lax.cond(
        jnp.any(short), _scale_by_determined, lambda _, found: found, moments, found
    )


def _scale_by_determined(
    moments: Moments, found: ProcrustesSolution
) -> ProcrustesSolution:
    """Compare the spread on the determined directions, where others are open."""
    within = identified_directions(moments, found.rank)
    factor = fit_scale(moments, found.rotation, scale="energy", within=within)
    residual = map_residual(moments, found.rotation, factor)
    return dataclasses.replace(found, scale=factor, residual=residual)


def fit_metrics(moments: Moments, solution: ProcrustesSolution) -> FitMetrics:
    """Metrics of fits on their own anchors, on scales where errors are symmetric."""
    trace = jnp.sum(solution.rotation * moments.cross_covariance, axis=(-2, -1))
    agreement = trace / jnp.sqrt(moments.source_energy * moments.target_energy)
    return to_symmetric(
        agreement, solution.residual, moments.target_energy, moments.count
    )


def resampled_fits(
    blocks: Moments, weights, whole, basis, *, chunk: int, scale: Scale, proper: bool
) -> tuple[FitMetrics, Angles]:
    """Metrics of the fit under each row of weights, and its angles to the whole fit.

    Args:
      blocks: moments with one leading axis, G.
      weights: ``(R, G)``.
      whole: rotation of the whole fit.
      basis: of the narrower side, see `map_angles`.
      chunk: static; replicates at a time.
      scale: static.
      proper: static.

    Returns:
      Metrics and angles, each ``(R,)``.
    """

    def some(weights):
        moments, solution = refit(blocks, weights, scale=scale, proper=proper)
        return fit_metrics(moments, solution), map_angles(
            solution.rotation, whole, basis
        )

    return over_chunks(some, weights, chunk)


def held_out(
    blocks: Moments, weights, *, chunk: int, scale: Scale, proper: bool
) -> HeldOutSums:
    """Judge the map under each row of weights on the blocks of weight 0.

    Args:
      blocks: moments with one leading axis, G.
      weights: ``(R, G)``; a block is held out where it is 0.
      chunk: static; replicates at a time.
      scale: static.
      proper: static.

    Returns:
      Errors and spreads, each ``(R,)``.
    """

    def some(weights):
        moments, solution = refit(blocks, weights, scale=scale, proper=proper)
        rest = reduce_groups(blocks, weights == 0)
        return _judge(moments, solution, rest)

    return over_chunks(some, weights, chunk)


def _judge(moments, solution, rest):
    """Errors on other rows: about their own mean, and of that mean itself."""
    source = rest.source_mean - moments.source_mean
    target = rest.target_mean - moments.target_mean
    # (..., d_target, d_source) @ (..., d_source, 1)
    turned = product(solution.rotation, source[..., None])
    missed = target - solution.scale[..., None] * turned[..., 0]
    within = map_residual(rest, solution.rotation, solution.scale)
    return HeldOutSums(
        error=within + rest.count * jnp.sum(jnp.square(missed), axis=-1),
        spread=rest.target_energy + rest.count * jnp.sum(jnp.square(target), axis=-1),
    )
