# SPDX-License-Identifier: Apache-2.0
"""Optimisers on the Stiefel manifold: optax chains, each of a few small pieces.

They take Euclidean gradients and are given `params`; their updates end on the manifold
by `optax.apply_updates`. Schedules, `optax.multi_transform`,
`optax.inject_hyperparams`, `optax.MultiSteps` and masks work as with any optimiser.

An update is the next point minus the point, so nothing may come after an optimiser in a
chain: scaled or clipped, the update ends beside the manifold. A transformation of the
step is given as `step_transform`, one of the gradient goes before the optimiser:

    optimizer = riemannian_adam(
        0.1, step_transform=optax.contrib.reduce_on_plateau(factor=0.5, patience=5)
    )
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optimizer)
    ...
    updates, state = optimizer.update(gradient, state, point, value=loss)
"""

import optax

from jaxalign.array_types import Array
from jaxalign.errors import ArgumentError
from jaxalign.stiefel.geometry import Metric
from jaxalign.stiefel.landing import land_updates, to_landing_direction
from jaxalign.stiefel.pogo import orthonormalize_updates
from jaxalign.stiefel.precision import Precision
from jaxalign.stiefel.retractions import Retraction
from jaxalign.stiefel.steps import limit_cayley_step, retract_updates
from jaxalign.stiefel.transforms import (
    scale_by_riemannian_adam,
    to_riemannian_gradient,
    trace_tangent,
)

LearningRate = float | Array | optax.Schedule


def riemannian_sgd(
    learning_rate: LearningRate,
    *,
    momentum: float | Array | None = None,
    nesterov: bool = False,
    metric: Metric = "euclidean",
    retraction: Retraction = "polar",
    stabilize_every: int | Array | None = None,
    step_transform: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Descend along the Riemannian gradient, with momentum if asked for.

    :math:`X_{t+1} = R_{X_t}(-\eta_t M_t)` with the Riemannian gradient or momentum
    :math:`M_t` of `trace_tangent`, ``learning_rate`` :math:`\eta` and ``retraction``
    :math:`R`.

    Args:
      learning_rate: a number or an optax schedule, in units of one over the curvature.
        For :math:`-\langle Q, C \rangle`, 1 to 2 over the largest singular value of
        :math:`C` did best where it was tuned.
      momentum: of `trace_tangent`; None for none. 0.4 did best at condition number 10,
        0.8 at 100 and 1,000.
      nesterov: static; look ahead, which takes momentum.
      metric: static; of the gradient, ``"euclidean"`` or ``"canonical"`` (without
        momentum only).
      retraction: static; see `retract`.
      stabilize_every: see `retract_updates`; set it for the Cayley retractions.
      step_transform: of the step, learning rate and sign included, before the
        retraction: `optax.contrib.reduce_on_plateau`, clipping, a schedule. What it
        adds off the tangent space is projected away, for two products.

    Returns:
      An optax transformation for a tree of orthonormal matrices ``(*batch, rows,
      columns)``, and no other parameters: see `label_paths`.

    Raises:
      ArgumentError: for an unknown option, momentum in the canonical metric, or
        `nesterov` without momentum.

    Notes:
      Two products a step and those of the retraction; two more with `nesterov`.

    References:
      Absil, Mahony, Sepulchre, "Optimization Algorithms on Matrix Manifolds", 2008.
      Bonnabel, "Stochastic gradient descent on Riemannian manifolds", 2013, arXiv
      1111.5280.

    >>> import jax.numpy as jnp
    >>> point, optimizer = jnp.eye(2), riemannian_sgd(0.5)
    >>> state = optimizer.init(point)
    >>> update, state = optimizer.update(jnp.array([[0.0, 1.0], [0, 0]]), state, point)
    >>> point = optax.apply_updates(point, update)
    >>> bool(point[0, 1] < -0.2)  # down the gradient, and still orthonormal
    True
    >>> bool(jnp.allclose(point.T @ point, jnp.eye(2), atol=1e-6))
    True
    """
    if momentum is not None and metric != "euclidean":
        raise ArgumentError(
            f"riemannian_sgd(metric={metric!r})",
            "'euclidean' with momentum, which is carried along by the Euclidean "
            "projection",
            remedy="leave `metric` out",
        )
    _check_nesterov("riemannian_sgd", nesterov, momentum)
    if momentum is None:
        direction = to_riemannian_gradient(metric=metric)
    else:
        direction = trace_tangent(momentum, nesterov=nesterov)
    step = _transforms("riemannian_sgd", step_transform)
    return _retracting(direction, learning_rate, step, retraction, stabilize_every)


def riemannian_adam(
    learning_rate: LearningRate,
    *,
    b1: float | Array = 0.9,
    b2: float | Array = 0.999,
    eps: float | Array = 1e-8,
    retraction: Retraction = "polar",
    stabilize_every: int | Array | None = None,
    step_transform: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Descend by Adam with one second moment for each matrix.

    Args:
      learning_rate: a number or an optax schedule: the length of a step on the
        manifold (Frobenius norm), while gradients keep their size. To converge beyond
        a step's length it must fall: pass a schedule.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to its root.
      retraction: static; see `retract`.
      stabilize_every: see `retract_updates`; set it for the Cayley retractions.
      step_transform: see `riemannian_sgd`. Adam undoes a scaling of gradients, so one
        before the optimiser has no effect.

    Returns:
      An optax transformation, as of `riemannian_sgd`.

    Raises:
      ArgumentError: for an unknown option.

    Notes:
      Four products a step and those of the retraction.

    References:
      Becigneul and Ganea, "Riemannian adaptive optimization methods", 2019, arXiv
      1810.00760.
    """
    direction = scale_by_riemannian_adam(b1, b2, eps)
    step = _transforms("riemannian_adam", step_transform)
    return _retracting(direction, learning_rate, step, retraction, stabilize_every)


def cayley_sgd(
    learning_rate: LearningRate,
    *,
    momentum: float | Array = 0.9,
    bound: float | Array = 1.0,
    stabilize_every: int | Array | None = 1,
    step_transform: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Descend with momentum along the iterative Cayley transform.

    Args:
      learning_rate: a number or an optax schedule, as of `riemannian_sgd`.
      momentum: decay of the momentum.
      bound: see `limit_cayley_step`.
      stabilize_every: see `retract_updates`. The iteration leaves an error of third
        order in the step, which does not vanish by itself.
      step_transform: see `riemannian_sgd`.

    Returns:
      An optax transformation, as of `riemannian_sgd`.

    Notes:
      Products only. Steps are at most `bound` long: many small ones for large matrices
      far from the optimum, where `riemannian_sgd(retraction="cayley")`, with a linear
      solve a step, takes longer ones.

    References:
      Li, Fuxin, Todorovic, "Efficient Riemannian optimization on the Stiefel manifold
      via the Cayley transform", 2020, arXiv 2002.01113, algorithm 1.
    """
    step = _transforms("cayley_sgd", step_transform)
    return _retracting(
        trace_tangent(momentum),
        learning_rate,
        step,
        "cayley_iterative",
        stabilize_every,
        limit_cayley_step(bound),
    )


def cayley_adam(
    learning_rate: LearningRate,
    *,
    b1: float | Array = 0.9,
    b2: float | Array = 0.99,
    eps: float | Array = 1e-8,
    bound: float | Array = 1.0,
    stabilize_every: int | Array | None = 1,
    step_transform: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Descend by Adam along the iterative Cayley transform.

    Args:
      learning_rate: a number or an optax schedule, as of `riemannian_adam`.
      b1: decay of the first moment.
      b2: decay of the second moment, which follows the whole gradient's norm.
      eps: added to its root.
      bound: see `limit_cayley_step`.
      stabilize_every: as of `cayley_sgd`.
      step_transform: see `riemannian_sgd`.

    Returns:
      An optax transformation, as of `riemannian_sgd`.

    Notes:
      Products only. Since the whole gradient's norm stays where the tangent part
      vanishes, steps get shorter towards an optimum by themselves.

    References:
      Li, Fuxin, Todorovic, 2020, arXiv 2002.01113, algorithm 2.
    """
    step = _transforms("cayley_adam", step_transform)
    return _retracting(
        scale_by_riemannian_adam(b1, b2, eps, norm_of="gradient"),
        learning_rate,
        step,
        "cayley_iterative",
        stabilize_every,
        limit_cayley_step(bound),
    )


def landing(
    learning_rate: LearningRate,
    *,
    momentum: float | Array | None = None,
    attraction: float | Array = 1.0,
    radius: float | Array = 0.5,
    step_transform: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Descend near the manifold, drawn to it: no retraction, no factorisation.

    Args:
      learning_rate: a number or an optax schedule, as of `riemannian_sgd`.
      momentum: of the directions, by `optax.trace`; None for none.
      attraction: see `land_updates`.
      radius: see `land_updates`; it shortens steps longer than its root in the
        Frobenius norm, so that a large matrix far from the optimum takes small ones.
      step_transform: see `riemannian_sgd`; of the direction, before the pull to the
        manifold is added. Not projected: points need not be on the manifold.

    Returns:
      An optax transformation, as of `riemannian_sgd`, except that points lie within
      `radius` of the manifold, and on it only as steps get small: end by
      `ja.solve.polar_factor(point).factor`, as `fit` does.

    Notes:
      Five products a step for square points, seven for others.

    References:
      Ablin and Peyre, "Fast and accurate optimization on the orthogonal manifold
      without retraction", 2022, arXiv 2102.07432; Ablin et al., 2023, arXiv 2303.16510.
    """
    return optax.chain(
        to_landing_direction(),
        optax.identity() if momentum is None else optax.trace(momentum),
        optax.scale_by_learning_rate(learning_rate),
        *_transforms("landing", step_transform),
        land_updates(attraction, radius),
    )


def pogo(
    learning_rate: LearningRate,
    *,
    momentum: float | Array | None = None,
    nesterov: bool = False,
    precision: Precision = "full",
    step_transform: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Descend by a tangent step and one Newton-Schulz step: products alone.

    Args:
      learning_rate: a number or an optax schedule, as of `riemannian_sgd`.
      momentum: of `trace_tangent`; None for none. Rules that go before, as in
        ``optax.chain(optax.clip_by_global_norm(1.0), pogo(0.1))``, see Euclidean
        gradients; those that scale entry by entry change where the descent ends.
      nesterov: static; look ahead, which takes momentum.
      precision: static; ``"mixed"`` computes two of the four products, the direction
        and the correction, from bfloat16 operands: faster where there are matrix units
        for them, and as orthonormal in the end. Square points only; others are not
        changed by it but for the correction.
      step_transform: see `riemannian_sgd`.

    Returns:
      An optax transformation, as of `riemannian_sgd`.

    Raises:
      ArgumentError: for an unknown option, or `nesterov` without momentum.

    Notes:
      Four products a step, momentum included: the least of all here. For points that
      are not square the paper's direction is half the canonical gradient; this one is
      the Euclidean gradient, the same for square points.

    References:
      Javaloy and Vergari, "An embarrassingly simple way to optimize orthogonal matrices
      at scale", 2026, arXiv 2602.14656.
    """
    _check_nesterov("pogo", nesterov, momentum)
    if momentum is None:
        direction = to_riemannian_gradient(precision=precision)
    else:
        direction = trace_tangent(momentum, nesterov=nesterov, precision=precision)
    transforms = _transforms("pogo", step_transform)
    if transforms:
        # As `retract_updates` does it: what is added off the tangent space is dropped.
        transforms = [*transforms, to_riemannian_gradient(precision=precision)]
    return optax.chain(
        direction,
        optax.scale_by_learning_rate(learning_rate),
        *transforms,
        orthonormalize_updates(precision=precision),
    )


def _retracting(
    direction, learning_rate, transforms, retraction, stabilize_every, *limits
) -> optax.GradientTransformationExtraArgs:
    """Chain a direction, its learning rate, what is done to a step, and the step."""
    return optax.chain(
        direction,
        optax.scale_by_learning_rate(learning_rate),
        *transforms,
        *limits,
        retract_updates(
            retraction, stabilize_every=stabilize_every, project=bool(transforms)
        ),
    )


def _transforms(call, step_transform) -> list[optax.GradientTransformation]:
    """List what is done to a step before it is taken."""
    if step_transform is None:
        return []
    if not isinstance(step_transform, optax.GradientTransformation):
        raise ArgumentError(
            f"{call}(step_transform=...)",
            "an optax transformation",
            type(step_transform).__name__,
            "pass one such as `optax.contrib.reduce_on_plateau()`",
        )
    return [step_transform]


def _check_nesterov(call, nesterov, momentum) -> None:
    """Raise for `nesterov` without momentum, which would change nothing."""
    if nesterov and momentum is None:
        raise ArgumentError(
            f"{call}(nesterov=True)",
            "momentum with it",
            "momentum=None",
            "pass momentum=0.9, or leave `nesterov` out",
        )
