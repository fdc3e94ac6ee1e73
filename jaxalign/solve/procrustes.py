# SPDX-License-Identifier: Apache-2.0
"""Orthogonal Procrustes from accumulated moments: the solve step of the data flow.

Moments of a few anchors go in, one orthogonal map comes out, with what tells how far
the anchors determine it. Reference: Schoenemann, "A generalized solution of the
orthogonal Procrustes problem", 1966.
"""

import dataclasses
import functools
import typing
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError, check_count, check_option
from jaxalign.moments import Moments
from jaxalign.moments.statistics import check_moments
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass, static_field
from jaxalign.solve.isometry import nearest_isometry
from jaxalign.solve.leading_directions import leading_directions
from jaxalign.solve.polar import (
    PolarMethod,
    check_method,
    orthogonality_bound,
    orthogonality_error,
    thin_svd,
)
from jaxalign.solve.projection import least_squares_projection
from jaxalign.solve.scale import SCALES, Directions, Scale, fit_scale, map_residual
from jaxalign.status import Checked, Status

Objective = Literal["least_squares", "trace"]
OBJECTIVES: tuple[str, ...] = typing.get_args(Objective)


@pytree_dataclass
class ProcrustesSolution(Checked):
    """Best orthogonal map for a batch of moments.

    Attributes:
      rotation: Q, shape ``(*batch, d_target, d_source)``.
      scale: factor of the rotated rows, ``(*batch)``.
      singular_values: of the cross-covariance, descending, ``(*batch, k)`` with k the
        smaller width.
      rank: directions that the anchors determine, ``(*batch)``, int32.
      residual: sum over anchors of ``|scale * Q x_c - y_c|**2``, ``(*batch)``; NaN if
        ``d_source > d_target`` and the moments hold no Gram.
      status: `Status` codes, ``(*batch)``.
      iterations: steps taken, ``(*batch)``, int32; 0 for a direct method.
      objective: static; what `rotation` is the optimum of, ``"least_squares"`` or
        ``"trace"``. Where ``d_source <= d_target`` one optimum is the other.
    """

    made_by: ClassVar[str] = "solve_procrustes"

    rotation: Float[Array, "*batch d_target d_source"]
    scale: Float[Array, "*batch"]
    singular_values: Float[Array, "*batch k"]
    rank: Int[Array, "*batch"]
    residual: Float[Array, "*batch"]
    status: Int[Array, "*batch"]
    iterations: Int[Array, "*batch"]
    objective: str = static_field()


def solve_procrustes(
    moments: Moments,
    *,
    method: PolarMethod = "svd",
    proper: bool = False,
    scale: Scale = "none",
    objective: Objective | None = None,
    max_iterations: int = 2000,
) -> ProcrustesSolution:
    r"""Solve orthogonal Procrustes from accumulated moments, batched over leading axes.

    With centred anchors :math:`x_i` (source) and :math:`y_i` (target), finds
    :math:`Q` with orthonormal columns (rows, if ``d_source > d_target``) that maximises
    :math:`\langle Q, C \rangle`, where ``moments.cross_covariance`` is
    :math:`C = \sum_i y_i x_i^\top = U \Sigma V^\top`. The optimum is
    :math:`Q = U V^\top`; where ``d_source <= d_target`` it is also the least-squares
    optimum :math:`\min_Q \sum_i |Q x_i - y_i|^2`, whatever the scale.

    Args:
      moments: of the anchors; batched over leading axes. Without Grams unless
        ``d_source > d_target`` and least squares, a scale or the residual is wanted.
      method: static; how the polar factor is computed, see `polar_factor`. An iterative
        one gives up on a rank-deficient problem with the status NOT_CONVERGED.
      proper: static; only determinant +1: the last column of :math:`U`, of the
        smallest singular value, is negated if need be. Equal widths only.
      scale: static. With :math:`E = \mathrm{tr}(Q G_x Q^\top)` the energy of the
        rotated source rows: ``"none"`` is 1; ``"least_squares"`` is
        :math:`\langle Q, C \rangle / E`; ``"energy"`` is
        :math:`\sqrt{\sum_i |y_i|^2 / E}`, which gives the aligned rows the spread of
        the target rows.
      objective: static; only where ``d_source > d_target``. ``"least_squares"`` takes
        the source Gram and an iteration (`least_squares_projection`, which has no
        derivative; `method` is not read), ``"trace"`` the SVD. Default: least squares
        if the moments hold Grams, else the trace.
      max_iterations: static; of that iteration.

    Returns:
      The solution; call `check()` on the host to raise on trouble.

    Raises:
      ValueError: if `moments` is no `Moments`, an option is unknown, `proper` comes
        with unequal widths, or a scale or least squares needs a Gram that is missing.

    Notes:
      Unique only if ``rank`` equals the smaller width (with `proper`, one less is
      enough); else the part of Q outside the leading ``rank`` singular vectors is
      arbitrary, see `identified_directions`. ``rank`` counts singular values above
      rounding, and is never more than the number of anchors less one. Where
      ``d_source > d_target`` the SVD maximises the trace but not least squares, and
      may be far from that optimum; least squares may have local optima. Differentiable
      in the moments where it is unique, tied singular values included; elsewhere the
      derivative of the rotation is NaN. Cost O(d^3) per entry; no communication if
      sharded on the batch axes.

    References:
      Schoenemann, "A generalized solution of the orthogonal Procrustes problem", 1966.
      Kabsch, "A discussion of the solution for the best rotation", 1978 (proper).

    >>> from jaxalign.moments import init_moments, update_moments
    >>> rows = jnp.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]])
    >>> turn = jnp.array([[0.0, -1.0], [1.0, 0.0]])
    >>> moments = update_moments(init_moments(2, 2), rows, rows @ turn.T)
    >>> bool(jnp.allclose(solve_procrustes(moments).rotation, turn, atol=1e-5))
    True
    """
    _check_options(moments, method, proper, scale, objective)
    check_count("solve_procrustes", "max_iterations", max_iterations)
    wide = moments.d_source > moments.d_target
    if objective is None or not wide:
        held = moments.source_gram is not None
        objective = "least_squares" if held or not wide else "trace"
    return _solve(
        moments,
        method=method,
        proper=proper,
        scale=scale,
        objective=objective,
        max_iterations=max_iterations,
    )


@jax.jit
def solve_leading(
    moments: Moments, most: Int[ArrayLike, ""] | None
) -> tuple[ProcrustesSolution, Directions]:
    r"""Solve for the part of the trace's optimum that the anchors determine.

    Args:
      moments: as of `solve_procrustes`.
      most: directions to keep at most, the leading ones; None: all that are determined.

    Returns:
      The solution, whose rotation is :math:`U_r V_r^\top`, without a scale; and U and
      V, with r.

    Notes:
      Differentiable in the moments at a fixed r, see `leading_directions`.
    """
    _check_options(moments, "svd", False, "none", "trace")
    solution = _solve_open(
        moments,
        method="svd",
        proper=False,
        scale="none",
        objective="trace",
        max_iterations=1,
    )
    kept = solution.rank if most is None else jnp.minimum(solution.rank, most)
    directions = identified_directions(moments, kept)
    # (..., d_target, k) @ (..., k, d_source), 0 beyond the rank
    onto = jnp.swapaxes(directions.source, -1, -2)
    part = product(directions.target, onto)
    # Of all directions it is the rotation, which has derivatives of any order.
    full = (kept == solution.singular_values.shape[-1])[..., None, None]
    rotation = jnp.where(full, solution.rotation, part)
    return dataclasses.replace(solution, rotation=rotation), directions


@functools.partial(
    jax.jit,
    static_argnames=("method", "proper", "scale", "objective", "max_iterations"),
)
def _solve(moments, *, proper, **options):
    """Solve; jitted whole, since eager calls would compile each operation."""
    solution = _solve_open(moments, proper=proper, **options)
    unique = solution.rank >= _needed(solution.singular_values, proper)
    rotation = _with_slope_where(solution.rotation, unique)
    return dataclasses.replace(solution, rotation=rotation)


def _solve_open(moments, *, method, proper, scale, objective, max_iterations):
    """Solve; a derivative takes the arbitrary part of the rotation for constant."""
    cross = moments.cross_covariance
    by_iteration = objective == "least_squares" and moments.d_source > moments.d_target
    if by_iteration:
        rotation, iterations, converged = least_squares_projection(
            cross,
            moments.source_gram,
            with_scale=scale == "least_squares",
            max_iterations=max_iterations,
        )
        _, singular_values, _ = thin_svd(cross)
    else:
        rotation, singular_values, steps = nearest_isometry(cross, method, proper)
        iterations = steps.astype(jnp.int32)
        error = orthogonality_error(jax.lax.stop_gradient(rotation))
        converged = error <= orthogonality_bound(rotation)
    rank = _rank(singular_values, moments)
    factor = fit_scale(moments, rotation, scale=scale)
    unique = rank >= _needed(singular_values, proper)
    return ProcrustesSolution(
        rotation=rotation,
        scale=factor,
        singular_values=singular_values,
        rank=rank,
        residual=map_residual(moments, rotation, factor),
        status=_status(moments, factor, converged, unique),
        iterations=iterations,
        objective=objective,
    )


def identified_directions(
    moments: Moments, rank: Int[ArrayLike, "*batch"]
) -> Directions:
    r"""Singular vectors of the cross-covariance that the anchors determine.

    Args:
      moments: that the rotation was fitted on.
      rank: of that fit, as `solve_procrustes` gives it.

    Returns:
      U and V, with zeros in the columns beyond `rank`. There :math:`Q = U V^\top` is
      fitted; the anchors do not determine it elsewhere.

    Notes:
      Differentiable in the moments at a fixed `rank`, see `leading_directions`.
    """
    return _identified(moments.cross_covariance, jnp.asarray(rank))


@jax.jit
def _identified(cross, rank):
    """Cut; jitted whole, since eager calls would compile each operation."""
    return Directions(*leading_directions(cross, rank), rank)


def _needed(singular_values, proper):
    """Rank at which the rotation is unique."""
    return singular_values.shape[-1] - int(proper)


@jax.custom_jvp
def _with_slope_where(rotation, unique):
    """Return `rotation`, with NaN for its derivative where it is not unique.

    Not 0, or that of the part which is: training would go on by it, unseen.
    """
    del unique
    return rotation


@_with_slope_where.defjvp
def _(primals, tangents):
    rotation, unique = primals
    factor = jnp.where(unique, 1.0, jnp.nan).astype(rotation.dtype)
    return rotation, tangents[0] * factor[..., None, None]


def _rank(s, moments):
    """Singular values above rounding, at most the anchors' number less one."""
    widest = max(moments.d_source, moments.d_target)
    # Strict comparison: an all-zero matrix must have rank 0.
    cutoff = s[..., :1] * widest * float(jnp.finfo(s.dtype).eps)
    numerical = jnp.sum(s > cutoff, axis=-1, dtype=jnp.int32)
    return jnp.minimum(numerical, jnp.maximum(moments.rows - 1, 0))


def _status(moments, factor, converged, unique):
    """Choose the code that explains most: bad numbers, too few rows, low rank."""
    finite = jnp.isfinite(moments.source_energy) & jnp.isfinite(moments.target_energy)
    finite &= jnp.all(jnp.isfinite(moments.cross_covariance), axis=(-2, -1))
    return jnp.select(
        [~finite, moments.rows < 2, ~jnp.isfinite(factor), ~converged, ~unique],
        [
            jnp.int32(Status.NON_FINITE),
            jnp.int32(Status.TOO_FEW_ANCHORS),
            jnp.int32(Status.NON_FINITE),
            jnp.int32(Status.NOT_CONVERGED),
            jnp.int32(Status.RANK_DEFICIENT),
        ],
        jnp.int32(Status.OK),
    )


def _check_options(moments, method, proper, scale, objective):
    """Raise for what is no `Moments`, and options that do not exist or do not fit."""
    remedy = "for a bare matrix use polar_factor"
    check_moments("solve_procrustes", moments, remedy=remedy)
    check_method("solve_procrustes", method)
    if objective is not None:
        check_option(
            "solve_procrustes",
            "objective",
            objective,
            OBJECTIVES,
            remedy="leave it out for least squares where the moments allow it",
        )
    wide = moments.d_source > moments.d_target
    if objective == "least_squares" and wide and moments.source_gram is None:
        raise ArgumentError(
            "solve_procrustes(objective='least_squares')",
            f"moments with Gram matrices for a map from width {moments.d_source} to "
            f"{moments.d_target}",
            "none",
            "make them by `init_moments(..., grams=True)`, or pass objective='trace'",
        )
    check_option(
        "solve_procrustes",
        "scale",
        scale,
        SCALES,
        remedy="'energy' suits rows that sit in cones of unequal width",
    )
    if proper and moments.d_source != moments.d_target:
        raise ArgumentError(
            "solve_procrustes(proper=True)",
            "equal widths",
            f"{moments.d_source} and {moments.d_target}",
            "a rectangular map has no determinant, so leave proper=False",
        )
