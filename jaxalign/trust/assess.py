# SPDX-License-Identifier: Apache-2.0
"""How far to trust a map: one call from grouped moments to intervals and a verdict.

Stands between the moments and the report. Rows are never read: blocks of them are
weighted anew, and everything is told from sums.
"""

import functools
import statistics

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from jaxalign.errors import ArgumentError
from jaxalign.moments import Moments, reduce_groups
from jaxalign.solve.procrustes import identified_directions
from jaxalign.solve.scale import ORTHOGONAL_SCALE, Scale
from jaxalign.status import Status
from jaxalign.trust.blocks import half_samples
from jaxalign.trust.delta import delta_intervals
from jaxalign.trust.frame import (
    sensitivity,
    singular_frame,
    total_influence,
)
from jaxalign.trust.grouping import (
    FEWEST_BLOCKS,
    check_groups,
    degrees_of_freedom,
    effective_blocks,
    flat_groups,
)
from jaxalign.trust.intervals import (
    check_level,
    student_interval,
    t_quantile,
)
from jaxalign.trust.learning import learning_curve
from jaxalign.trust.metrics import BACK, over_metrics
from jaxalign.trust.replicates import (
    STEP,
    fit_metrics,
    held_out,
    near_weights,
    resampled_fits,
    solve_trace,
)
from jaxalign.trust.result import AngleBound, Trust

# A direction along which Q errs by more than this, in radians, root mean square, is not
# determined. 0.2 is 11 degrees. Beyond, errors are no longer of first order: where a
# spectrum falls off into noise, bounds that are asked for 95 % held in 92 to 95 % of
# cases at 0.2, in 86 to 90 % at 0.3, and in 45 to 79 % at 0.5.
DETERMINED = 0.2

# Held-out fits: folds that are left out one at a time, and halves.
_FOLDS, _HALVES = 64, 64


def assess_map(
    moments: Moments,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    scale: Scale = ORTHOGONAL_SCALE,
    proper: bool = False,
    tolerance: float = 0.05,
    chunk: int = 4,
) -> Trust:
    r"""Tell how far to trust the Procrustes map of some anchors, from moments alone.

    Blocks are weighted anew by half-samples, drawn half of the way: weights
    :math:`1 \pm \tfrac12`. A replicate's deviation from the fit, doubled, is
    distributed like the fit's own from the population. Bias and standard error are
    taken on a symmetric scale (Fisher's z, logarithms), and give t intervals.

    Args:
      moments: of independent blocks of rows, leading axes = blocks (`block_of_rows`),
        at least 8 of them; with Grams if ``d_source > d_target``.
      replicates: static; how many solves the intervals rest on.
      level: static; confidence of intervals and bounds, each for itself.
      seed: of all draws; the same seed gives the same bits.
      scale: static; that of the map, see `solve_procrustes`. Default: that of
        `fit_map`; where the anchors leave directions open, "energy" compares the
        spread on the others alone if the moments hold Grams, as `fit_map` does.
      proper: static; of the map, see `solve_procrustes`.
      tolerance: there are enough anchors if the held-out error is within this
        share of its limit for any number of them (or 0.001 of the target's spread).
      chunk: static; replicates solved at a time. Raise it on accelerators.

    Returns:
      What the anchors tell; call `check()` on the host to raise on trouble, and
      `describe_trust` for the sentence.

    Raises:
      ValueError: if there are fewer than 8 blocks or 20 replicates, or an option is
        unknown.

    Notes:
      No pass over rows: ``replicates`` + 128 solves, O(d^3) each, and O(G d_source
      d_target) for the moments of each; memory ``chunk`` of both. No collectives.
      Where ``d_source > d_target`` the map of the greatest trace is assessed, not that
      of least squares, whose iteration each replicate would need anew.
      Intervals rest on blocks being independent, and on Q being unique: along
      directions beyond `determined` nothing is claimed.

      Coverage at level 0.95 and scale "energy", by 1,000 planted data sets each
      (standard error 0.007), as tests/trust/test_coverage.py plants them; the last, by
      scale "none", is a spectrum that falls off into noise, with 5 or so directions of
      24 determined:

      ==================  =====  =======  =====  ============  ======  =============
      case                flat   falling  noisy  wider target  few     ends in noise
      width d             8      16       12     8 to 12       8       24
      anchors             500    1,000    2,000  1,000         500     1,000
      blocks              64     64       64     64            16      64
      ==================  =====  =======  =====  ============  ======  =============
      agreement           0.954  0.948    0.946  0.946         0.949   0.953
      relative residual   0.953  0.947    0.946  0.947         0.948   0.953
      mean square         0.954  0.955    0.963  0.945         0.958   0.964
      first order, least  0.953  0.945    0.947  0.946         0.949   0.954
      held-out error      0.947  0.943    0.948  0.947         0.943   0.959
      largest angle       0.955  0.960    0.964  0.968         0.974   0.944
      geodesic angle      0.950  0.974    0.963  0.970         0.972   0.948
      linear functional   0.943  0.947    0.952  0.949         0.944   0.966
      ==================  =====  =======  =====  ============  ======  =============

      (The last row is `rotation_interval`.) Percentiles of a plain bootstrap held the
      agreement in 45 to 92 % of cases, since a fit flatters itself. With 8 blocks
      bounds of angles are wider than they need be, and hold in 99 %.

    References:
      Efron, Tibshirani, "An introduction to the bootstrap", 1993; McCarthy,
      "Pseudo-replication: half samples", 1969; Bayle, Bayle, Janson, Mackey,
      "Cross-validation confidence intervals for test error", 2020, arXiv 2007.12671.

    >>> import jaxalign as ja
    >>> from jaxalign.moments import init_moments, update_moments
    >>> rows = jax.random.normal(jax.random.key(0), (400, 3))
    >>> noisy = rows + 0.5 * jax.random.normal(jax.random.key(1), rows.shape)
    >>> moments = init_moments(3, 3, groups=16)
    >>> blocks = ja.trust.block_of_rows(np.arange(400), blocks=16)
    >>> moments = update_moments(moments, rows, noisy, group=blocks)
    >>> trust = assess_map(moments, replicates=100).check()
    >>> int(trust.rank), bool(trust.largest_angle.bound < 0.2)
    (3, True)
    """
    check_groups("assess_map", moments)
    check_level("assess_map", level)
    if replicates < 20 or chunk < 1:
        raise ArgumentError(
            f"assess_map(replicates={replicates}, chunk={chunk})",
            "at least 20 replicates, some at a time",
            remedy="1000 are usual, 100 do for a look",
        )
    if not tolerance > 0:
        raise ArgumentError(
            f"assess_map(tolerance={tolerance})",
            "a share above 0",
            remedy="0.05 is usual",
        )
    groups = moments.count.size
    return _assess(
        # Before it is compiled: axes of any shape share one program.
        flat_groups(moments),
        near_weights(groups, replicates, seed),
        half_samples(groups, _HALVES, seed=seed + 1),
        _fold_weights(groups, seed),
        level=level,
        scale=scale,
        proper=proper,
        tolerance=tolerance,
        chunk=chunk,
    )


@functools.partial(jax.jit, static_argnames=("level", "scale", "proper", "chunk"))
def _assess(blocks, near, halves, folds, *, level, scale, proper, tolerance, chunk):
    """Fit, replicate, hold out."""
    whole = reduce_groups(blocks)
    solution = solve_trace(whole, scale=scale, proper=proper)
    options = {"scale": scale, "proper": proper, "chunk": chunk}
    dof, factor = degrees_of_freedom(blocks.count)
    frame = singular_frame(whole.cross_covariance, solution.rank, proper=proper)
    delta = None
    if blocks.d_source <= blocks.d_target:
        delta = delta_intervals(blocks, level=level, scale=scale, proper=proper)
        turned = delta.turned
    else:
        turned = jnp.sqrt(factor * total_influence(frame, blocks, whole).turned)
    determined = _determined(turned, solution.rank)
    directions = identified_directions(whole, determined)
    wide = blocks.d_source > blocks.d_target
    narrow = directions.target if wide else directions.source
    replicated, angles = resampled_fits(
        blocks, near, solution.rotation, narrow, **options
    )
    left_out = held_out(blocks, jnp.concatenate([halves, folds]), **options)
    at_half, at_most = (
        jax.tree.map(lambda x, place=place: x[place], left_out)
        for place in (slice(halves.shape[0]), slice(halves.shape[0], None))
    )
    left = _ratio_interval(at_most, level=level)
    learning = learning_curve(
        jnp.sum(at_half.error) / jnp.sum(at_half.spread),
        left.estimate,
        share=1.0 - 1.0 / folds.shape[0],
        anchors=whole.rows,
        directions=solution.singular_values.shape[0],
        tolerance=tolerance,
    )
    return Trust(
        anchors=whole.rows,
        blocks=effective_blocks(blocks.count),
        directions=jnp.int32(solution.singular_values.shape[0]),
        rank=solution.rank,
        determined=determined,
        sensitivity=sensitivity(frame, solution.rank),
        metrics=_metric_intervals(
            fit_metrics(whole, solution), replicated, dof, level=level
        ),
        delta=delta,
        held_out=left,
        largest_angle=_bound(angles.largest, determined, dof, level),
        geodesic_angle=_bound(angles.geodesic, determined, dof, level),
        learning=learning,
        status=_status(solution.status, effective_blocks(blocks.count), learning),
        level=level,
    )


def _fold_weights(groups: int, seed: int) -> Int[np.ndarray, "folds g"]:
    """Weights that leave out one fold of groups each, at most 64 folds."""
    folds = min(groups, _FOLDS)
    fold_of = np.random.default_rng(seed + 2).permutation(groups) % folds
    return (fold_of[None, :] != np.arange(folds)[:, None]).astype(np.int32)


def _determined(turned, rank):
    """Leading directions along which Q errs little, at most the rank."""
    places = jnp.arange(turned.shape[0], dtype=rank.dtype)
    good = (turned < DETERMINED) & (places < rank)
    return jnp.sum(jnp.cumprod(good.astype(jnp.int32)), dtype=jnp.int32)


def _metric_intervals(fitted, replicated, dof, *, level):
    """Stretch what replicates do, take off the bias, and make t intervals."""

    def interval(at, values, back):
        # Bias is of second order: it shrinks with the square of the step.
        bias = (jnp.mean(values) - at) / STEP**2
        error = jnp.std(values, ddof=1) / STEP
        return student_interval(at - bias, error, dof, level=level, back=back)

    return over_metrics(interval, fitted, replicated, BACK)


def _ratio_interval(parts, *, level):
    """Interval of a ratio of sums over folds, on the scale of its logarithm."""
    spread = jnp.sum(parts.spread)
    ratio = jnp.sum(parts.error) / spread
    misses = (parts.error - ratio * parts.spread) / spread
    dof, factor = degrees_of_freedom(parts.spread)
    error = jnp.sqrt(factor * jnp.sum(jnp.square(misses)))
    floor = jnp.maximum(ratio, float(jnp.finfo(ratio.dtype).tiny))
    return student_interval(
        jnp.log(floor), error / floor, dof, level=level, back=jnp.exp
    )


def _bound(angles, determined, dof, level):
    """Upper bound of an angle from replicates; half a turn if nothing is known."""
    # Few blocks know their own spread badly, as Student's t says.
    wider = t_quantile(level, dof) / statistics.NormalDist().inv_cdf(level)
    bound = wider * jnp.quantile(angles, jnp.asarray(level, angles.dtype))

    def stretched(angle):
        angle = jnp.minimum(angle / STEP, jnp.pi)
        return jnp.where(determined == 0, jnp.pi, angle)

    return AngleBound(typical=stretched(jnp.median(angles)), bound=stretched(bound))


def _status(solved, blocks, learning):
    """Choose the code that explains most: the solve's, few blocks, few anchors."""
    bad = (solved != int(Status.OK)) & (solved != int(Status.RANK_DEFICIENT))
    return jnp.select(
        [bad, blocks < FEWEST_BLOCKS, learning.more > 0],
        [solved, jnp.int32(Status.FEW_BLOCKS), jnp.int32(Status.MORE_ANCHORS)],
        solved,
    )
