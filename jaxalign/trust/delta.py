# SPDX-License-Identifier: Apache-2.0
"""First-order intervals: how metrics answer to each block's weight, without a refit.

The delta method over blocks, also known as the infinitesimal jackknife. One solve, then
inner products: what resampling tells in a thousand solves, to first order.

References:
  Jaeckel, "The infinitesimal jackknife", 1972; Efron, "The jackknife, the bootstrap and
  other resampling plans", 1982.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.errors import ArgumentError
from jaxalign.moments import Moments, reduce_groups
from jaxalign.precise import HIGHEST, product
from jaxalign.pytrees import pytree_dataclass
from jaxalign.solve.procrustes import solve_procrustes
from jaxalign.solve.scale import ORTHOGONAL_SCALE, Scale
from jaxalign.status import Status
from jaxalign.trust.frame import (
    block_sums,
    singular_frame,
    total_influence,
)
from jaxalign.trust.grouping import (
    check_groups,
    degrees_of_freedom,
    flat_groups,
)
from jaxalign.trust.intervals import Interval, check_level, student_interval
from jaxalign.trust.metrics import BACK, FitMetrics, over_metrics, symmetric_metrics


@pytree_dataclass
class DeltaIntervals:
    """First-order intervals of a fit's metrics.

    Attributes:
      metrics: an `Interval` of each metric, for the best map of the whole population.
      turned: root mean square angle, in radians, by which Q errs along each singular
        direction of the narrower side, in the order of the singular values, ``(k,)``;
        NaN if curvature was not asked for.
    """

    metrics: FitMetrics[Interval]
    turned: Float[Array, " k"]


def delta_intervals(
    moments: Moments,
    *,
    level: float = 0.95,
    scale: Scale = ORTHOGONAL_SCALE,
    proper: bool = False,
    curvature: bool = True,
) -> DeltaIntervals:
    r"""Intervals of agreement and residuals by the delta method, from one solve.

    With :math:`T = \langle Q, C \rangle`, the derivative of T by the weight of block b
    is :math:`\langle Q, dC_b \rangle`, since Q is optimal, and the second one
    :math:`\langle dQ_b, dC_b \rangle + \langle Q, d^2 C_b \rangle`. A metric
    :math:`\theta(T, E_x, E_y, N)` then has the standard error
    :math:`(\frac{B}{B-1} \sum_b (\partial_b \theta)^2)^{1/2}` and the bias
    :math:`\frac{B}{B-1} \frac12 \sum_b \partial_b^2 \theta`, which is taken off.

    Args:
      moments: of independent blocks of rows, leading axes = blocks (`block_of_rows`);
        at least 8 of them.
      level: static; share of data sets whose interval holds the truth.
      scale: static; see `solve_procrustes`. Default: that of `fit_map`.
      proper: static; of `solve_procrustes`.
      curvature: static; whether to take off the bias, and tell how Q errs. Without it
        intervals of agreement lie too high where anchors are few.

    Returns:
      The intervals, about the population's best map: how well Q could do. Residuals
      are NaN by the scale "energy" where the anchors leave directions open and the
      moments hold Grams: such a map's scale is no function of the trace.

    Raises:
      ValueError: if there are fewer than 8 blocks, the source is wider than the target
        (the residual is then no function of the trace), or an option is unknown.

    Notes:
      Cost O(G d_source d_target) after one solve, and O(G d^3) more for the curvature,
      one block at a time. No collectives. Coverage of 95 % intervals on planted
      problems stands in `assess_map`.

    >>> from jaxalign.moments import init_moments, update_moments
    >>> rows = jax.random.normal(jax.random.key(0), (400, 3))
    >>> noisy = rows + 0.5 * jax.random.normal(jax.random.key(1), rows.shape)
    >>> moments = init_moments(3, 3, groups=16)
    >>> moments = update_moments(moments, rows, noisy, group=jnp.arange(400) % 16)
    >>> found = delta_intervals(moments).metrics.agreement
    >>> bool(found.low < 1 / jnp.sqrt(1.25) < found.high)
    True
    """
    check_groups("delta_intervals", moments)
    check_level("delta_intervals", level)
    if moments.d_source > moments.d_target:
        raise ArgumentError(
            "delta_intervals(moments=...)",
            "a source no wider than the target",
            f"widths {moments.d_source} and {moments.d_target}",
            "use `assess_map`, which solves anew for each replicate",
        )
    return _delta(moments, level=level, scale=scale, proper=proper, curvature=curvature)


@functools.partial(jax.jit, static_argnames=("level", "scale", "proper", "curvature"))
def _delta(moments, *, level, scale, proper, curvature):
    """Derivatives by all blocks, then t intervals."""
    blocks = flat_groups(moments)
    whole = reduce_groups(blocks)
    solution = solve_procrustes(whole, proper=proper, scale=scale)
    sums = block_sums(blocks, whole)
    # <Q, C_b + n_b y_b x_b'>, (G,)
    turned = product(sums.source, solution.rotation.T)
    between = jnp.sum(turned * sums.target, axis=-1)
    trace = jnp.tensordot(
        blocks.cross_covariance, solution.rotation, 2, precision=HIGHEST
    )
    first = jnp.stack(
        [trace + sums.count * between, *sums.energies, sums.count], axis=-1
    )
    at = jnp.stack(
        [
            jnp.sum(solution.rotation * whole.cross_covariance),
            whole.source_energy,
            whole.target_energy,
            whole.count,
        ]
    )

    def metrics(at):
        found = symmetric_metrics(*at, scale=scale)
        if scale != "energy" or moments.source_gram is None:
            return found
        short = solution.status == Status.RANK_DEFICIENT
        return FitMetrics(
            agreement=found.agreement,
            relative_residual=jnp.where(short, jnp.nan, found.relative_residual),
            mean_square_residual=jnp.where(short, jnp.nan, found.mean_square_residual),
        )

    dof, factor = degrees_of_freedom(blocks.count)
    # (4,) each
    slopes = jax.jacfwd(metrics)(at)
    errors = over_metrics(
        lambda slope: jnp.sqrt(factor * jnp.sum(jnp.square(product(first, slope)))),
        slopes,
    )
    centres = metrics(at)
    directions = jnp.full_like(solution.singular_values, jnp.nan)
    if curvature:
        frame = singular_frame(whole.cross_covariance, solution.rank, proper=proper)
        total = total_influence(frame, blocks, whole)
        # The means move with the weights, and so bend all three sums: (G, 3).
        lever = -2.0 * jnp.square(sums.count) / whole.count
        bent = [
            between,
            jnp.sum(jnp.square(sums.source), axis=-1),
            jnp.sum(jnp.square(sums.target), axis=-1),
        ]
        second = [jnp.sum(lever * part) for part in bent]
        second = jnp.stack(
            [second[0] + total.curvature, *second[1:], jnp.zeros_like(second[0])]
        )
        # (4, 4), the blocks' covariance of the sums up to a factor
        outer = product(first.T, first)
        biases = over_metrics(
            lambda slope, hessian: (
                0.5 * factor * (jnp.sum(slope * second) + jnp.sum(hessian * outer))
            ),
            slopes,
            jax.hessian(metrics)(at),
        )
        centres = over_metrics(lambda centre, bias: centre - bias, centres, biases)
        directions = jnp.sqrt(factor * total.turned)
    return DeltaIntervals(
        metrics=over_metrics(
            lambda centre, error, back: student_interval(
                centre, error, dof, level=level, back=back
            ),
            centres,
            errors,
            BACK,
        ),
        turned=directions,
    )
