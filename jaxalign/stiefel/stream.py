# SPDX-License-Identifier: Apache-2.0
"""Fit an orthogonal map to rows that come as a stream: one step a batch.

For objectives that moments cannot hold, such as contrastive ones, over more rows than
memory. Reference: Bonnabel, "Stochastic gradient descent on Riemannian manifolds",
2013, arXiv 1111.5280.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError, check_count
from jaxalign.pytrees import pytree_dataclass
from jaxalign.status import Status, check_status
from jaxalign.stiefel.components import determinant_sign
from jaxalign.stiefel.feasibility import largest_excess
from jaxalign.stiefel.hyperparams import begin, check_state
from jaxalign.stiefel.leaves import check_points
from jaxalign.stiefel.measures import PointTree, drift, settle


@pytree_dataclass
class StreamSolution:
    """Points after a stream of batches.

    Attributes:
      point: as `init`, orthonormal to rounding.
      value: mean loss of the last batches, as last recorded, a scalar.
      orthogonality_error: largest entry of ``|Q'Q - I|``, measured.
      determinant: +1 or -1, that of `init` still; 0 where points are not square, or
        are several.
      steps: batches seen, those before a resumed fit not among them.
      status: a `Status` code: NON_FINITE, OFF_MANIFOLD or OK, which does not say that
        it converged.
      recorded_steps: batches seen at each record, shape ``(records,)``.
      recorded_values: mean loss since the record before, ``(records,)``.
      state: of the optimizer, to go on from.
    """

    point: Any
    value: Float[Array, ""]
    orthogonality_error: Float[Array, ""]
    determinant: Int[Array, ""]
    steps: Int[Array, ""]
    status: Int[Array, ""]
    recorded_steps: Int[Array, " records"]
    recorded_values: Float[Array, " records"]
    state: Any

    def check(self, *, allow: Iterable[Status] = ()) -> "StreamSolution":
        """Return itself, or raise `SolveError` for a status not in `allow`."""
        check_status(self.status, call="stiefel.fit_stream", allow=allow)
        return self


def fit_stream(
    loss: Callable[[PointTree, Any], Array],
    init: PointTree,
    optimizer: optax.GradientTransformation,
    batches: Iterable[Any],
    *,
    state: optax.OptState | None = None,
    hyperparams: Mapping[str, float | ArrayLike] | None = None,
    record_every: int = 10,
    report: Callable[[int, float], None] | None = None,
) -> StreamSolution:
    """Take one optimiser step for each batch of a stream.

    Args:
      loss: from a point, or a tree of points, and a batch to a scalar. For instance
        ``lambda point, rows: robust_objective(rows.source, rows.target)(point)``.
      init: orthonormal, in the component that is wanted: a stream passes once. The
        closed form of the anchors' moments serves best.
      optimizer: any of this room; give it a schedule that falls, or the point goes on
        wandering as far as the batches differ. It is given ``value``, the batch's loss,
        as `optax.contrib.reduce_on_plateau` asks (as `step_transform`).
      batches: PyTrees of arrays, all of one shape; pad and mask the last. Split over a
        mesh, each device works on its rows.
      state: of an earlier solution, whose `point` is `init`; default: a fresh one.
      hyperparams: as of `fit`: numbers of an optimizer made by
        `optax.inject_hyperparams`, which share one program.
      record_every: batches between two records.
      report: called at each record with the batches seen and the mean loss.

    Returns:
      The solution. Keep its `point` and `state` to go on later.

    Raises:
      ArgumentError: if there is no batch, `init` is not orthonormal, `loss` gives no
        scalar, `state` is not the optimizer's, or an option is out of range.

    Notes:
      One compilation for one shape of batch. The step's collectives are those of the
      loss's gradient: with rows split over devices, one all-reduce of d x d.

    References:
      Bonnabel, 2013, arXiv 1111.5280.

    >>> from jaxalign.stiefel import riemannian_sgd
    >>> def loss(point, batch):
    ...     return jnp.mean(jnp.square(batch @ point.T - batch))
    >>> batches = [jnp.array([[1.0, 2.0], [0.5, -1.0]])] * 40
    >>> start = jnp.array([[0.6, -0.8], [0.8, 0.6]])
    >>> found = fit_stream(loss, start, riemannian_sgd(0.2), batches)
    >>> bool(jnp.allclose(found.point, jnp.eye(2), atol=1e-3))
    True
    """
    check_count("fit_stream", "record_every", record_every)
    check_points("fit_stream", init)
    # A copy: the step writes the new point where the old one was.
    point = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), init)
    numbers = check_state("fit_stream", optimizer, point, state, hyperparams)
    state = begin(optimizer, point, jax.tree.map(jnp.copy, state), numbers)
    total = jnp.zeros(())
    steps, values, count = [], [], 0

    def keep() -> None:
        # Reading the sum waits for the device, so it is done once a record.
        values.append(float(total) / (count - (steps[-1] if steps else 0)))
        steps.append(count)
        if report is not None:
            report(count, values[-1])

    for batch in batches:
        point, state, value = _step(point, state, batch, loss=loss, optimizer=optimizer)
        total, count = total + value, count + 1
        if count % record_every == 0:
            keep()
            total = jnp.zeros(())
    if not count:
        raise ArgumentError(
            "fit_stream(batches=...)",
            "at least one batch",
            "an empty iterable",
            "an iterator that was used up is empty, make it anew",
        )
    if steps[-1:] != [count]:
        keep()
    point, error, determinant = _settled(point)
    status = Status.OK
    if any(np.max(np.asarray(one)) > 0 for one in largest_excess(state)):
        status = Status.OFF_MANIFOLD
    if not (np.isfinite(values[-1]) and np.isfinite(float(error))):
        status = Status.NON_FINITE
    return StreamSolution(
        point=point,
        value=jnp.asarray(values[-1]),
        orthogonality_error=error,
        determinant=determinant,
        steps=jnp.asarray(count),
        status=jnp.asarray(int(status)),
        recorded_steps=jnp.asarray(steps),
        recorded_values=jnp.asarray(values),
        state=state,
    )


@jax.jit
def _settled(point):
    """Correct the drift, and measure what came out."""
    point = settle(point)
    return point, drift(point, 0), determinant_sign(point, 0)


@functools.partial(
    jax.jit, static_argnames=("loss", "optimizer"), donate_argnames=("point", "state")
)
def _step(point, state, batch, *, loss, optimizer):
    """Take one step, and give the loss before it."""

    def scalar(point):
        value = jnp.asarray(loss(point, batch))
        if value.shape:
            raise ArgumentError(
                "fit_stream(loss=...)",
                "a scalar for a batch",
                f"shape {value.shape}",
                "return a mean over its rows",
            )
        return value

    value, gradient = jax.value_and_grad(scalar)(point)
    optimizer = optax.with_extra_args_support(optimizer)
    updates, state = optimizer.update(gradient, state, point, value=value)
    return optax.apply_updates(point, updates), state, value
