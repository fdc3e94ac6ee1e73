# SPDX-License-Identifier: Apache-2.0
"""Pieces of optimisers on the Stiefel manifold that come before the learning rate.

Each is an optax transformation over a tree of points, and gives tangent vectors at
them: the gradient's tangent part, momentum carried along, Adam's moments. What takes
the step stands in `steps.py`. References: Absil, Mahony, Sepulchre, "Optimization
Algorithms on Matrix Manifolds", 2008; Becigneul and Ganea, "Riemannian adaptive
optimization methods", 2019, arXiv 1810.00760.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from jaxalign.array_types import Array
from jaxalign.errors import check_option
from jaxalign.precise import product
from jaxalign.stiefel.geometry import (
    Metric,
    check_metric,
    project_tangent,
    riemannian_gradient,
)
from jaxalign.stiefel.leaves import check_updates, map_points, zeros_per_matrix
from jaxalign.stiefel.precision import Precision, choose_product
from jaxalign.stiefel.shapes import flip


def to_riemannian_gradient(
    *, metric: Metric = "euclidean", precision: Precision = "full"
) -> optax.GradientTransformationExtraArgs:
    r"""Turn Euclidean gradients into Riemannian ones.

    Updates :math:`G` at points :math:`X` become
    :math:`G - X \,\mathrm{sym}(X^\top G)` or :math:`G - X G^\top X`, see
    `riemannian_gradient`.

    Args:
      metric: static; ``"euclidean"`` or ``"canonical"``.
      precision: static; with ``"mixed"`` the second of two products, of a square point
        in the Euclidean metric, has operands in bfloat16: the direction errs by 2^-8 of
        its own length, also off the tangent space, which a last piece that measures
        the new point's orthogonality makes good (`orthonormalize_updates`).

    Returns:
      A transformation without state; its `update` needs `params`.

    Raises:
      ArgumentError: for an unknown metric or precision.

    Notes:
      Two products a matrix.
    """
    check_metric("to_riemannian_gradient", metric)
    tangent = _projection(precision)

    def turn(gradient, point):
        if metric == "euclidean":
            return tangent(point, gradient)
        return riemannian_gradient(point, gradient, metric=metric)

    def update(updates, state, params=None, **extra):
        del extra
        params = check_updates("to_riemannian_gradient", params)
        return map_points(turn, updates, params), state

    return optax.GradientTransformationExtraArgs(_stateless, update)


class TraceTangentState(NamedTuple):
    """Momentum: tangent at the points of the step before."""

    trace: optax.Updates


def trace_tangent(
    decay: float | Array, *, nesterov: bool = False, precision: Precision = "full"
) -> optax.GradientTransformationExtraArgs:
    r"""Accumulate momentum, carried from point to point by projection.

    At points :math:`X_t` with updates :math:`G_t` and ``decay`` :math:`\beta`,

    .. math:: M_t = P_{X_t}(\beta M_{t-1} + G_t),

    where :math:`P` is the projection to the tangent space, and the update becomes
    :math:`M_t`, or :math:`P_{X_t}(G_t) + \beta M_t` with ``nesterov``.

    Args:
      decay: :math:`\beta`, 0 to 1.
      nesterov: static; look ahead.
      precision: static; of the second product, see `to_riemannian_gradient`.

    Returns:
      A transformation with `TraceTangentState`; takes Euclidean gradients or
      Riemannian ones of the Euclidean metric alike, since :math:`P` is linear and
      idempotent. Its `update` needs `params`.

    Notes:
      Two products a matrix, as many as without momentum; four with `nesterov`.
    """
    tangent = _projection(precision)

    def init(params):
        return TraceTangentState(optax.tree.zeros_like(params))

    def update(updates, state, params=None, **extra):
        del extra
        params = check_updates("trace_tangent", params)
        trace = map_points(
            lambda gradient, point, before: tangent(point, decay * before + gradient),
            updates,
            params,
            state.trace,
        )
        if nesterov:
            updates = map_points(
                lambda gradient, point, now: tangent(point, gradient) + decay * now,
                updates,
                params,
                trace,
            )
        else:
            updates = trace
        kept = jax.tree.map(lambda new, old: new.astype(old.dtype), trace, state.trace)
        return updates, TraceTangentState(kept)

    return optax.GradientTransformationExtraArgs(init, update)


class RiemannianAdamState(NamedTuple):
    """First moment, a tangent vector, and second moment, a number, of each matrix."""

    count: Int[Array, ""]
    mu: optax.Updates
    nu: optax.Updates


def scale_by_riemannian_adam(
    b1: float | Array = 0.9,
    b2: float | Array = 0.999,
    eps: float | Array = 1e-8,
    *,
    norm_of: Literal["tangent", "gradient"] = "tangent",
) -> optax.GradientTransformationExtraArgs:
    r"""Rescale gradients by Adam's rule, one second moment for each matrix.

    Entries of a point have no meaning of their own, so that Adam's entrywise scaling
    would leave the tangent space. With :math:`T_t = P_{X_t}(G_t)`,

    .. math::

        M_t = P_{X_t}(\beta_1 M_{t-1} + (1 - \beta_1) G_t), \quad
        v_t = \beta_2 v_{t-1} + (1 - \beta_2) \|T_t\|_F^2,

    and the update is :math:`\hat M_t / (\sqrt{\hat v_t} + \epsilon)` with both moments
    corrected for their start. Its norm is about one: the learning rate is the length
    of a step on the manifold, whose points lie up to :math:`2 \sqrt d` apart.

    Args:
      b1: :math:`\beta_1`.
      b2: :math:`\beta_2`.
      eps: :math:`\epsilon`.
      norm_of: static; the norm that the second moment follows: of the ``"tangent"``
        part (Becigneul and Ganea), or of the whole ``"gradient"`` (Li et al.), which
        costs no product but stays large where the tangent part vanishes.

    Returns:
      A transformation with `RiemannianAdamState`; its `update` needs `params`.

    Raises:
      ArgumentError: if `norm_of` is unknown.

    Notes:
      Four products a matrix; two with ``norm_of="gradient"``.

    References:
      Becigneul and Ganea, 2019, arXiv 1810.00760; Li, Fuxin, Todorovic, "Efficient
      Riemannian optimization on the Stiefel manifold via the Cayley transform", 2020,
      arXiv 2002.01113.
    """
    check_option(
        "scale_by_riemannian_adam", "norm_of", norm_of, ("tangent", "gradient")
    )

    def init(params):
        return RiemannianAdamState(
            count=jnp.zeros((), jnp.int32),
            mu=optax.tree.zeros_like(params),
            nu=zeros_per_matrix(params),
        )

    def squared_norm(gradient, point) -> Float[Array, "*batch 1 1"]:
        if norm_of == "tangent":
            gradient = project_tangent(point, gradient)
        return jnp.sum(jnp.square(gradient), axis=(-2, -1), keepdims=True)

    def update(updates, state, params=None, **extra):
        del extra
        params = check_updates("scale_by_riemannian_adam", params)
        count = optax.safe_increment(state.count)
        mu = map_points(
            lambda gradient, point, before: project_tangent(
                point, b1 * before + (1.0 - b1) * gradient
            ),
            updates,
            params,
            state.mu,
        )
        nu = map_points(
            lambda gradient, point, before: (
                b2 * before + (1.0 - b2) * squared_norm(gradient, point)
            ),
            updates,
            params,
            state.nu,
        )

        def corrected(moment, decay):
            return moment / (1.0 - decay ** jnp.asarray(count, moment.dtype))

        scaled = jax.tree.map(
            lambda m, v: corrected(m, b1) / (jnp.sqrt(corrected(v, b2)) + eps), mu, nu
        )
        mu = jax.tree.map(lambda new, old: new.astype(old.dtype), mu, state.mu)
        return scaled, RiemannianAdamState(jnp.asarray(count), mu, nu)

    return optax.GradientTransformationExtraArgs(init, update)


def _projection(precision):
    """Return the tangent projection with its second product in `precision`."""
    second = choose_product(precision)

    def project(point, vector):
        if precision == "full" or point.shape[-2] != point.shape[-1]:
            return project_tangent(point, vector)
        # (d, d) @ (d, d): of what cancels here, nothing may be lost to rounding. From
        # the left, skew(V X') X: the product that XLA runs fastest on CPU.
        turn = product(vector, flip(point))
        return second(0.5 * (turn - flip(turn)), point)

    return project


def _stateless(params):
    """State of a transformation that has none."""
    del params
    return optax.EmptyState()
