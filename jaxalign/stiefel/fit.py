# SPDX-License-Identifier: Apache-2.0
"""Fit an orthogonal map by descent: for objectives that no closed form solves.

A compiled loop over an objective of d x d matrices or of rows, for one problem or a
batch at once, which ends when the Riemannian gradient is small. Rows that come as a
stream are fitted by `fit_stream`. Reference: Absil, Mahony, Sepulchre, "Optimization
Algorithms on Matrix Manifolds", 2008.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError, check_count
from jaxalign.status import Status
from jaxalign.stiefel.components import (
    choose_components,
    determinant_sign,
    enter_other,
)
from jaxalign.stiefel.feasibility import largest_excess
from jaxalign.stiefel.hyperparams import begin, check_state
from jaxalign.stiefel.leaves import LOOSE, check_points
from jaxalign.stiefel.measures import (
    PointTree,
    choose,
    drift,
    freeze,
    gradient_norm,
    is_orthonormal,
    per_problem,
    settle,
    value_and_gradient,
)
from jaxalign.stiefel.solution import History, StiefelSolution

Objective = Callable[[Any], jax.Array]

_MEASURES = (
    "point",
    "value",
    "gradient_norm",
    "orthogonality_error",
    "determinant",
    "steps",
    "status",
)


def fit(
    objective: Objective,
    init: PointTree | Literal["closed_form"],
    optimizer: optax.GradientTransformation,
    *,
    state: optax.OptState | None = None,
    hyperparams: Mapping[str, float | ArrayLike] | None = None,
    steps: int = 1000,
    tolerance: float | Array = 1e-5,
    components: Literal["both", "given"] | None = None,
    record_every: int = 10,
) -> StiefelSolution:
    r"""Minimise an objective over orthonormal matrices.

    Args:
      objective: from a point ``(*batch, rows, columns)``, or a tree of points, to
        values ``(*batch)``, one for each problem. A PyTree such as
        `procrustes_objective` gives (or a `jax.tree_util.Partial` over arrays) is an
        argument of the compiled loop; a plain function is compiled into it, arrays and
        all.
      init: the point to start from, orthonormal, or ``"closed_form"``, if the objective
        has a `closed_form_start`.
      optimizer: any of this room, or an optax chain that ends in one of its steps; what
        changes steps goes into its `step_transform`. It is given ``value``, the
        objective's (the mean of a batch's), as `optax.contrib.reduce_on_plateau` asks.
        Static: the loop is compiled anew for another object, so make it once, and vary
        its numbers by `hyperparams`.
      state: of the optimizer, from an earlier solution whose `point` is `init`: the fit
        goes on where that one stopped. Default: a fresh one.
      hyperparams: numbers of an optimizer made by `optax.inject_hyperparams`, by name,
        in place of those that it was made with or that `state` holds. They are data:
        all values share one program. A sweep is a `jax.vmap` over them; for a batch,
        an array of shape ``(*batch, 1, 1)`` gives one number a problem.
      steps: static; at most, those before a resumed fit not among them.
      tolerance: of the norm of the Riemannian gradient, relative to the norm of the
        Euclidean gradient at the start, at which a problem is done. A resumed fit
        measures that norm at its own start.
      components: static; ``"both"`` runs a second time from a reflection of `init`, and
        keeps the better end for each problem: no step leads from one component of the
        square orthogonal matrices to the other. Default: both for one square point
        that is given, otherwise, and with a `state`, ``"given"``.
      record_every: static; steps between two records of the history.

    Returns:
      The solution; `determinant` and `reflected` say which component it is from, and
      `describe()` says it in words.

    Raises:
      ArgumentError: if `init` is no tree of orthonormal matrices, values and points do
        not match, the objective has no closed form to start from, `state` is not the
        optimizer's, or an option is out of range.

    Notes:
      Half precision does not reach the default tolerance: fit in float32 or float64.
      Finds a local optimum: for Procrustes it is the best of its component, for other
      objectives it depends on the start, which the closed form of a related problem
      serves best. All problems of a batch take steps until the last is done; those
      that are done stay. Ends by a Newton-Schulz correction to rounding. The cost is
      that of the steps, one orthogonality check a record, and the objective's. Runs
      under `jax.jit` and `jax.vmap`; no collectives of its own for a batch that is
      split, but for the test whether all are done, one flag a record.

      Resumed, two fits of 10 steps end where one of 20 does, to rounding, where the
      optimizer keeps to the manifold. Between the fits the point is projected to it,
      which changes the course of `landing` and of long steps of `pogo`.
      The `state` of a fit in both components is that of the better run; in a batch,
      what its problems share, such as a count of steps, is that of the longer run.

    References:
      Absil, Mahony, Sepulchre, "Optimization Algorithms on Matrix Manifolds", 2008.

    >>> from jaxalign.stiefel import riemannian_sgd
    >>> def nearest(point):
    ...     return -jnp.sum(point * jnp.diag(jnp.array([2.0, -1.0])))
    >>> found = fit(nearest, jnp.eye(2), riemannian_sgd(0.4))
    >>> bool(jnp.allclose(found.point, jnp.diag(jnp.array([1.0, -1.0])), atol=1e-3))
    True
    >>> int(found.determinant), bool(found.reflected)
    (-1, True)

    A sweep over learning rates is one program:

    >>> sgd = optax.inject_hyperparams(riemannian_sgd)(learning_rate=0.1)
    >>> start = jnp.array([[0.6, 0.8], [0.8, -0.6]])
    >>> def value(rate):
    ...     rates = {"learning_rate": rate}
    ...     return fit(nearest, start, sgd, hyperparams=rates, steps=8).value
    >>> values = jax.vmap(value)(jnp.array([0.01, 0.1, 0.4]))
    >>> int(jnp.argmin(values))
    2
    """
    check_count("fit", "steps", steps)
    check_count("fit", "record_every", record_every)
    # Within `jax.jit` a tolerance has no value yet.
    if not isinstance(tolerance, Tracer):
        _check_tolerance(tolerance)
    arguments, static = _split(objective)
    start = "the given point"
    if isinstance(init, str):
        init, start = _closed_form(objective, init), "the closed form"
        components = components or "given"
    check_points("fit", init)
    components = choose_components(init, components, resumed=state is not None)
    init = jax.tree.map(jnp.asarray, init)
    numbers = check_state("fit", optimizer, init, state, hyperparams)

    def descend(init):
        return _descend(
            arguments,
            init,
            state,
            numbers,
            tolerance,
            static=static,
            optimizer=optimizer,
            steps=steps,
            record_every=record_every,
        )

    given = descend(init)
    if components == "given":
        return dataclasses.replace(given, start=start)
    other = descend(_reflected(arguments, init, static=static))
    return dataclasses.replace(_better(given, other), start=start)


@functools.partial(jax.jit, static_argnames="static")
def _reflected(arguments, init, *, static):
    """Enter the other component where the objective likes it best."""
    objective = arguments if static is None else static
    _, gradient = value_and_gradient(objective, init)
    return jax.tree.map(enter_other, init, gradient)


@functools.partial(
    jax.jit, static_argnames=("static", "optimizer", "steps", "record_every")
)
def _descend(
    arguments,
    init,
    state,
    hyperparams,
    tolerance,
    *,
    static,
    optimizer,
    steps,
    record_every,
) -> StiefelSolution:
    """Run the loop from one start."""
    objective = arguments if static is None else static
    optimizer = optax.with_extra_args_support(optimizer)
    values, gradient = value_and_gradient(objective, init)
    batch = values.ndim
    unit = per_problem(gradient, batch)
    unit = jnp.where(unit > 0, unit, jnp.ones_like(unit))

    def measure(point, gradient):
        return gradient_norm(point, gradient, batch) / unit

    def step(now: _Now, _):
        # A value that is not finite cannot get better either.
        still = (now.norm <= tolerance) | ~jnp.isfinite(now.values)
        still |= now.taken >= steps
        updates, state = optimizer.update(
            now.gradient, now.state, now.point, value=jnp.mean(now.values)
        )
        # A state that went on after the last step would not be the one to resume from.
        state = choose(still, jnp.all(still), now.state, state)
        point = optax.apply_updates(now.point, freeze(still, updates))
        values, gradient = value_and_gradient(objective, point)
        norm = measure(point, gradient)
        taken = now.taken + jnp.where(still, 0, 1)
        return _Now(point, state, values, gradient, norm, taken), None

    def record(loop):
        now, history, records = loop
        now, _ = jax.lax.scan(step, now, None, length=record_every)
        history = jax.tree.map(
            lambda all_, one: all_.at[records].set(one), history, _measured(now, batch)
        )
        return now, history, records + 1

    def unfinished(loop):
        now, _, records = loop
        open_ = (now.norm > tolerance) & jnp.isfinite(now.values)
        return jnp.any(open_) & (records <= room)

    room = -(-steps // record_every)
    now = _Now(
        init,
        begin(optimizer, init, state, hyperparams),
        values,
        gradient,
        measure(init, gradient),
        jnp.zeros(values.shape, jnp.int32),
    )
    first = _measured(now, batch)
    history = jax.tree.map(
        lambda one: jnp.broadcast_to(one, (room + 1, *one.shape)), first
    )
    now, history, records = jax.lax.while_loop(
        unfinished, record, (now, history, jnp.int32(1))
    )
    return _finish(objective, now, history, records, measure, tolerance)


def _finish(objective, now, history, records, measure, tolerance):
    """Correct the drift, and measure what came out."""
    batch = now.values.ndim
    point = settle(now.point)
    values, gradient = value_and_gradient(objective, point)
    norm = measure(point, gradient)
    # The last record is repeated to the end of the arrays.
    places = jnp.arange(len(history.step), dtype=records.dtype)
    places = jnp.minimum(places, records - 1)
    history = jax.tree.map(lambda records_: records_[places], history)
    reached = (now.norm <= tolerance) & is_orthonormal(point, batch)
    status = jnp.where(reached, Status.OK.value, Status.NOT_CONVERGED.value)
    finite = jnp.isfinite(values) & jnp.isfinite(norm)
    status = jnp.where(finite, status, Status.NON_FINITE.value)
    # Above the others: values may be infinite because of it.
    left = _has_left(now.state, history)
    return StiefelSolution(
        point=point,
        value=values,
        gradient_norm=norm,
        orthogonality_error=drift(point, batch),
        determinant=determinant_sign(point, batch),
        reflected=jnp.zeros(values.shape, bool),
        other_value=jnp.full(values.shape, jnp.inf, values.dtype),
        steps=now.taken,
        status=jnp.where(left, Status.OFF_MANIFOLD.value, status),
        history=history,
        state=now.state,
    )


def _has_left(state, history):
    """Whether steps of a problem ended off the manifold, but as their last piece does.

    `_finish` brings any point back, which would hide it.
    """
    batch = history.orthogonality_error.ndim - 1
    records = largest_excess(state)
    if not records:
        # An optimiser of others: the looseness that points are accepted with.
        return jnp.max(history.orthogonality_error, axis=0) > LOOSE
    worst = [jnp.max(one, axis=tuple(range(batch, one.ndim))) for one in records]
    return functools.reduce(jnp.maximum, worst) > 0


class _Now(NamedTuple):
    """State of the loop."""

    point: PointTree
    state: optax.OptState
    values: Array
    gradient: PointTree
    norm: Array
    taken: Array


def _measured(now: _Now, batch: int) -> History:
    """One record."""
    return History(
        step=now.taken,
        value=now.values,
        gradient_norm=now.norm,
        orthogonality_error=drift(now.point, batch),
    )


@jax.jit
def _better(given: StiefelSolution, other: StiefelSolution) -> StiefelSolution:
    """Choose for each problem the run that ended lower."""
    # Not finite is never better; NaN compares false.
    take = (other.value < given.value) | ~jnp.isfinite(given.value)
    take &= jnp.isfinite(other.value)

    def better(left, right):
        return choose(take, take, right, left)

    longer = jnp.max(other.steps) > jnp.max(given.steps)
    return dataclasses.replace(
        given,
        **{
            name: better(getattr(given, name), getattr(other, name))
            for name in _MEASURES
        },
        reflected=take,
        other_value=better(other.value, given.value),
        history=jax.tree.map(
            lambda left, right: jnp.where(take[None], right, left),
            given.history,
            other.history,
        ),
        state=choose(take, longer, other.state, given.state),
    )


def _closed_form(objective, init):
    """Start where the objective says that a closed form ends."""
    start = getattr(objective, "closed_form_start", None)
    if init != "closed_form" or start is None:
        raise ArgumentError(
            f"fit(init={init!r})",
            "orthonormal points, or 'closed_form' with an objective that has a "
            "`closed_form_start`",
            f"an objective of type {type(objective).__name__}",
            "start from `ja.solve.solve_procrustes(moments).rotation`",
        )
    return start()


def _check_tolerance(tolerance) -> None:
    """Raise for what is no number of 0 or more, infinity among them."""
    bound = np.asarray(tolerance)
    real = jnp.issubdtype(bound.dtype, jnp.floating)
    real = real or jnp.issubdtype(bound.dtype, jnp.integer)
    if not real or bound.size != 1 or not bound >= 0:
        raise ArgumentError(
            f"fit(tolerance={tolerance!r})",
            "one number of 0 or more",
            remedy="0 takes all steps",
        )


def _split(objective):
    """Tell an objective that carries arrays from a plain function."""
    if not callable(objective):
        raise ArgumentError(
            "fit(objective=...)",
            "a function of a point",
            type(objective).__name__,
            "pass one such as `ja.stiefel.procrustes_objective(moments)`",
        )
    # A function is a leaf; a PyTree is not.
    if jax.tree_util.all_leaves([objective]):
        return None, objective
    return objective, None
