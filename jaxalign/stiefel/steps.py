# SPDX-License-Identifier: Apache-2.0
"""The last piece of an optimiser on the Stiefel manifold: the step itself.

Takes an update in the tangent space, with its learning rate and sign, and gives the
next point minus the point, so that `optax.apply_updates` lands on the manifold.
Reference: Absil, Mahony, Sepulchre, "Optimization Algorithms on Matrix Manifolds",
2008, chapter 4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Int

from jaxalign.array_types import Array
from jaxalign.errors import check_number, check_option
from jaxalign.precise import product
from jaxalign.stiefel.feasibility import (
    Feasibility,
    init_feasibility,
    update_feasibility,
)
from jaxalign.stiefel.geometry import project_tangent
from jaxalign.stiefel.leaves import check_points, check_updates, map_points
from jaxalign.stiefel.retractions import RETRACTIONS, Retraction, retract
from jaxalign.stiefel.shapes import flip


class RetractUpdatesState(NamedTuple):
    """Steps taken, by which stabilising is timed, and where they ended."""

    count: Int[Array, ""]
    feasibility: Feasibility


def retract_updates(
    method: Retraction = "polar",
    *,
    stabilize_every: int | Array | None = None,
    project: bool = True,
) -> optax.GradientTransformationExtraArgs:
    r"""Turn tangent updates into steps on the manifold; must be last in a chain.

    An update :math:`U` at :math:`X` becomes :math:`R_X(P_X(U)) - X`, where :math:`R`
    is a retraction and :math:`P` the projection to the tangent space. What changes that
    difference afterwards moves along a chord: put `optax.scale`, clipping or
    `optax.contrib.reduce_on_plateau` before this piece, never behind it.

    Args:
      method: static; see `retract`.
      stabilize_every: steps between two corrections of drift by a Newton-Schulz step
        :math:`X (3 I - X^\top X) / 2`, which squares the orthogonality error. Adding
        an update rounds, and ``"cayley"`` hands the error on: 1,600 eps after 10,000
        noisy steps at d = 64, 13 eps where every tenth was corrected. None: never,
        which is enough for ``"polar"`` and ``"qr"``: they make each point anew.
      project: static; False where updates are tangent already, which saves two
        products.

    Returns:
      A transformation with `RetractUpdatesState`. Its `init` refuses parameters that
      are not orthonormal, its `update` needs `params`. It records whether the points
      that it is given are those that it reached: outside of `jax.jit` it raises if not,
      inside of it see `check_on_manifold`.

    Raises:
      ArgumentError: if `method` is unknown, or `stabilize_every` a number below 1.

    Notes:
      The determinant's sign stays, whatever the step: each retraction of a tangent
      vector moves along one component. Keep orthonormal parameters in float32:
      half-precision ones round to orthonormal within 1e-2 only.

    >>> steps = optax.chain(optax.scale(-0.1), retract_updates("qr"))
    >>> point = jnp.eye(2)
    >>> update, _ = steps.update(jnp.ones((2, 2)), steps.init(point), point)
    >>> bool(jnp.allclose(update, 0.0, atol=1e-6))  # the gradient is normal to it
    True
    """
    check_option("retract_updates", "method", method, RETRACTIONS)
    # An injected number is an array: what it holds is not known here.
    if isinstance(stabilize_every, float | int):
        check_number(
            "retract_updates",
            "stabilize_every",
            stabilize_every,
            least=1.0,
            remedy="None is never",
        )

    def init(params):
        check_points("retract_updates", params)
        return RetractUpdatesState(jnp.zeros((), jnp.int32), init_feasibility(params))

    def update(updates, state, params=None, **extra):
        del extra
        params = check_updates("retract_updates", params)
        count = optax.safe_increment(state.count)

        def step(change, point):
            if project:
                change = project_tangent(point, change)
            reached = retract(point, change, method=method)
            return _stabilized(reached, count, stabilize_every) - point

        steps = as_params(map_points(step, updates, params), params)
        found = update_feasibility("retract_updates", state.feasibility, params, steps)
        return steps, RetractUpdatesState(jnp.asarray(count), found)

    return optax.GradientTransformationExtraArgs(init, update)


def limit_cayley_step(
    bound: float | Array = 1.0,
) -> optax.GradientTransformationExtraArgs:
    r"""Shorten updates for which the iterative Cayley transform would not contract.

    Its iteration contracts while :math:`\|W\| < 2`; an update :math:`U` is scaled by
    :math:`\min(1, b / \|U\|_F)`, since :math:`\|W\|_2 \le \sqrt 2 \|U\|_F`.

    Args:
      bound: :math:`b`, the longest step, below :math:`\sqrt 2`.

    Returns:
      A transformation without state.

    Raises:
      ArgumentError: for a number that is no such bound.

    Notes:
      The Frobenius norm is far above the spectral one in many dimensions, so that a
      large matrix takes short steps; `retract_cayley` needs no such bound.

    References:
      Li, Fuxin, Todorovic, 2020, arXiv 2002.01113, algorithm 1.
    """
    if isinstance(bound, float | int):
        check_number(
            "limit_cayley_step",
            "bound",
            bound,
            above=0.0,
            below=2**0.5,
            remedy="the iteration contracts below sqrt(2); leave it out for 1",
        )

    def update(updates, state, params=None, **extra):
        del params, extra

        def shortened(change):
            length = jnp.linalg.norm(change, axis=(-2, -1), keepdims=True)
            return change * jnp.minimum(1.0, bound / jnp.maximum(length, bound))

        return map_points(shortened, updates), state

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update
    )


def newton_schulz_step(point: Array) -> Array:
    r"""Take the cubic Newton-Schulz step :math:`X (3 I - X^\top X) / 2`: two products.

    Squares the orthogonality error, for singular values in (0, sqrt 3).
    """
    wide = point.shape[-2] < point.shape[-1]
    tall_point = flip(point) if wide else point
    gram = product(flip(tall_point), tall_point)
    identity = jnp.broadcast_to(jnp.eye(gram.shape[-1], dtype=gram.dtype), gram.shape)
    # As an addition: what is orthonormal already is not rounded again.
    change = 0.5 * product(tall_point, identity - gram)
    return point + (flip(change) if wide else change)


def _stabilized(point, count, every):
    """Correct the drift, at the steps at which it is due."""
    if every is None:
        return point
    if isinstance(every, int) and every == 1:
        return newton_schulz_step(point)
    due = count % every == 0
    return jax.lax.cond(due, newton_schulz_step, lambda same: same, point)


def as_params(updates: optax.Updates, params: optax.Params) -> optax.Updates:
    """Give updates in the dtypes of the parameters."""
    return jax.tree.map(lambda u, p: u.astype(jnp.result_type(p)), updates, params)
