# SPDX-License-Identifier: Apache-2.0
r"""Procrustes that wrong pairs cannot pull: iteratively reweighted, from rows.

One anchor whose partner is another's pulls the least-squares map as hard as it errs.
Each round fits a map by weighted Procrustes, means included, measures each pair's
error, and weighs the pairs anew by a rule that forgives what is far away.

References: Holland and Welsch, "Robust regression using iteratively reweighted
least-squares", 1977; Huber, "Robust Statistics", 1981; Verboon and Heiser, "Resistant
orthogonal Procrustes analysis", 1992.
"""

import functools
import typing
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Shaped

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError, check_count, check_option
from jaxalign.float_rows import paired_rows
from jaxalign.moments import Moments, init_moments, update_moments
from jaxalign.moments.weights import row_weights
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass
from jaxalign.solve.polar import PolarMethod, check_method
from jaxalign.solve.procrustes import ProcrustesSolution, solve_procrustes
from jaxalign.solve.scale import SCALES, Scale
from jaxalign.status import Checked, Status

Loss = Literal["tukey", "huber", "l1"]
LOSSES: tuple[str, ...] = typing.get_args(Loss)

# In units of the spread: 95 % efficient for Gaussian errors in one dimension, and for
# norms in many dimensions further out than nearly every clean pair.
_TUNING = {"tukey": 4.685, "huber": 1.345, "l1": 0.0}


@pytree_dataclass
class RobustSolution(Checked):
    """Map fitted on the pairs that agree, with robust weights of all pairs.

    Attributes:
      solution: the last weighted fit, see `solve_procrustes`.
      weights: of the pairs in it, ``(n,)``, from 0 to the given weight.
      moments: that it was fitted on: their means are the means of the map.
      iterations: rounds of reweighting.
      converged: whether the weights came to rest.
      status: a `Status` code.
    """

    made_by: ClassVar[str] = "solve_robust"

    solution: ProcrustesSolution
    weights: Float[Array, " n"]
    moments: Moments
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]
    status: Int[Array, ""]

    @property
    def rotation(self) -> Float[Array, "d_target d_source"]:
        """Q, shape ``(d_target, d_source)``."""
        return self.solution.rotation

    @property
    def scale(self) -> Float[Array, ""]:
        """Factor of the rotated rows."""
        return self.solution.scale


def solve_robust(
    source: Float[ArrayLike, "n d_source"],
    target: Float[ArrayLike, "n d_target"],
    *,
    weights: Shaped[ArrayLike, " n"] | None = None,
    loss: Loss = "tukey",
    scale: Scale = "none",
    proper: bool = False,
    method: PolarMethod = "svd",
    max_iterations: int = 50,
) -> RobustSolution:
    r"""Solve Procrustes robustly by iteratively reweighted fits.

    With errors :math:`r_i = |s Q (x_i - \bar x) - (y_i - \bar y)|` and their spread
    :math:`\sigma`, estimated each round by medians, pair :math:`i` gets the weight
    :math:`w_i \psi(r_i)`: for ``"tukey"`` :math:`(1 - (r_i / c)^2)^2` up to the cutoff
    :math:`c` and 0 beyond, for ``"huber"`` :math:`\min(1, c / r_i)`, for ``"l1"``
    :math:`1 / r_i`. The cutoff is :math:`c = \mathrm{median}(r) + k \sigma` with
    :math:`\sigma = 1.4826\,\mathrm{median} |r - \mathrm{median}(r)|`, since the
    errors of clean pairs gather about a norm that is not zero.

    Args:
      source: rows, shape ``(n, d_source)``.
      target: shape ``(n, d_target)``; row i belongs to row i of `source`, mostly.
      weights: shape ``(n,)``, not negative; 0 is padding. Default: all 1.
      loss: static; ``"tukey"`` drops wrong pairs whole, ``"huber"`` and ``"l1"`` are
        convex in the error and keep some of their pull.
      scale: static; see `solve_procrustes`. Errors are measured with it.
      proper: static; only determinant +1.
      method: static; how the polar factor is computed.
      max_iterations: static; of reweighting.

    Returns:
      The solution with the final weights.

    Raises:
      ValueError: if shapes do not pair, or an option is unknown.

    Notes:
      Starts from ``"l1"`` rounds, so that ``"tukey"``, which has local optima, begins
      near the bulk of the pairs. Fails where wrong pairs are the majority, or agree
      among themselves. Cost of a weighted fit a round: O(n d_source d_target + d^3);
      memory one copy of the rows. Where ``d_source > d_target`` each round solves
      least squares by iteration. Not differentiable. No collectives of its own; split
      over rows, the medians need the errors of all.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [2.0, 1.0]])
    >>> y = x.at[4].set(jnp.array([-9.0, 4.0]))
    >>> bool(jnp.allclose(solve_robust(x, y).rotation, jnp.eye(2), atol=1e-4))
    True
    """
    check_method("solve_robust", method)
    # Moments do not tell one pair from another: it works from rows.
    source, target = paired_rows("solve_robust", source, target)
    _check(source, target, loss, scale, proper, max_iterations)
    if weights is None:
        weights = jnp.ones(source.shape[:1], jnp.float32)
    weights = row_weights("solve_robust", weights, source.shape[0])
    return _solve(
        jnp.asarray(source),
        jnp.asarray(target),
        jnp.asarray(weights),
        loss=loss,
        scale=scale,
        proper=proper,
        method=method,
        max_iterations=max_iterations,
    )


@functools.partial(
    jax.jit, static_argnames=("loss", "scale", "proper", "method", "max_iterations")
)
def _solve(source, target, weights, *, loss, scale, proper, method, max_iterations):
    """Alternate fits and weights; the first rounds always forgive by l1."""
    # To a narrower space only the Gram tells what a map leaves of a row.
    wide = source.shape[1] > target.shape[1]
    empty = init_moments(source.shape[1], target.shape[1], grams=wide)
    dtype = empty.count.dtype
    given = weights.astype(dtype)
    kept = given > 0
    source = jnp.where(kept[:, None], source, jnp.zeros_like(source)).astype(dtype)
    target = jnp.where(kept[:, None], target, jnp.zeros_like(target)).astype(dtype)
    eps = float(jnp.finfo(dtype).eps)

    def fit(current):
        moments = update_moments(empty, source, target, weights=current)
        found = solve_procrustes(moments, method=method, proper=proper, scale=scale)
        return moments, found

    def reweigh(current, rule):
        moments, found = fit(current)
        centred = target - moments.target_mean[None, :]
        errors = _errors(source, centred, moments, found)
        sizes = jnp.maximum(errors, jnp.linalg.norm(centred, axis=-1))
        # A fit may be perfect: below this, errors are rounding and tell nothing.
        rounding = 64.0 * eps * jnp.max(jnp.where(kept, sizes, 0.0))
        return given * _weights(errors, kept, rule, rounding)

    def settle(rule, start, limit):
        def step(state):
            current, _, steps = state
            new = reweigh(current, rule)
            # Weights up to one factor are the same weights (l1 has no natural unit).
            change = jnp.max(jnp.abs(new / _largest(new) - current / _largest(current)))
            return new, change, steps + 1

        def unfinished(state):
            _, change, steps = state
            return (change > 1e-3) & (steps < limit)

        state = (start, jnp.ones((), dtype), jnp.int32(0))
        return jax.lax.while_loop(unfinished, step, state)

    # Half of the rounds for the start: it need not come to rest.
    start, _, first = settle("l1", given, max(1, max_iterations // 2))
    final, change, second = settle(loss, start, max_iterations)
    moments, found = fit(final)
    converged = change <= 1e-3
    status = jnp.where(
        (found.status == Status.OK) & ~converged,
        jnp.int32(Status.NOT_CONVERGED),
        found.status,
    )
    return RobustSolution(
        solution=found,
        weights=final,
        moments=moments,
        iterations=first + second,
        converged=converged,
        status=status,
    )


def _errors(source, centred, moments, found):
    """Distance of each moved source row from its partner."""
    # (n, d_source) @ (d_source, d_target)
    moved = product(source - moments.source_mean[None, :], found.rotation.T)
    return jnp.linalg.norm(found.scale * moved - centred, axis=-1)


def _weights(errors, kept, rule, rounding):
    """Robust (IRLS) weights of pairs with these errors."""
    middle = _median(errors, kept)
    # A perfect fit of most pairs has no spread.
    floor = jnp.maximum(middle * 1e-3, rounding)
    floor = jnp.maximum(floor, float(jnp.finfo(errors.dtype).tiny))
    if rule == "l1":
        # Scaled by the median, so that weights are numbers of order one.
        return jnp.maximum(middle, floor) / jnp.maximum(errors, floor)
    spread = 1.4826 * _median(jnp.abs(errors - middle), kept)
    cutoff = middle + _TUNING[rule] * jnp.maximum(spread, floor)
    if rule == "huber":
        return jnp.minimum(1.0, cutoff / jnp.maximum(errors, floor))
    inside = jnp.square(jnp.minimum(errors / cutoff, 1.0))
    return jnp.square(1.0 - inside)


def _median(values, kept):
    """Lower median of the rows that count, with padding sorted to the end."""
    ordered = jnp.sort(jnp.where(kept, values, jnp.inf))
    middle = ordered[jnp.maximum(jnp.sum(kept) - 1, 0) // 2]
    return jnp.where(jnp.any(kept), middle, jnp.zeros_like(middle))


def _largest(weights):
    """Largest weight, or one if there is none."""
    largest = jnp.max(weights)
    return jnp.where(largest > 0, largest, jnp.ones_like(largest))


def _check(source, target, loss, scale, proper, max_iterations):
    """Raise if an option does not exist."""
    for name, value, known in (("loss", loss, LOSSES), ("scale", scale, SCALES)):
        check_option("solve_robust", name, value, known)
    if proper and source.shape[1] != target.shape[1]:
        raise ArgumentError(
            "solve_robust(proper=True)",
            "equal widths",
            f"{source.shape[1]} and {target.shape[1]}",
            "leave proper=False",
        )
    check_count("solve_robust", "max_iterations", max_iterations)
