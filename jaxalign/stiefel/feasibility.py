# SPDX-License-Identifier: Apache-2.0
"""Whether points are still where the last step put them: on the manifold.

A step on the manifold gives the next point minus the point. Whatever changes that
difference afterwards (a later piece of an optax chain, an average of parameters) moves
along a chord and leaves the manifold. So every last piece measures the points that it
is given and the ones that it reaches, and records in its state what was added between.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.errors import ArgumentError
from jaxalign.precise import product
from jaxalign.status import SolveError, Status
from jaxalign.stiefel.leaves import LOOSE, can_be_seen, map_points, zeros_per_matrix
from jaxalign.stiefel.shapes import flip

# Both errors are measured alike: 0 eps seen within one program up to d = 300, a few
# where another program measures one of them.
_ROUNDING = 32.0

_REMEDY = (
    "a transformation after the last piece of the optimizer changes its step: give it "
    "to the optimizer as `step_transform=...`, or put it before the last piece of your "
    "own chain"
)


class Feasibility(NamedTuple):
    """Record of a last piece: orthogonality errors of each matrix, ``(*batch, 1, 1)``.

    Attributes:
      allowed: largest error that the next points may have: that of the points that the
        last step reached or of those that it started from.
      excess: most by which points that were given exceeded it; 0 where steps were
        followed as they were.
    """

    allowed: Any
    excess: Any


def init_feasibility(params: optax.Params) -> Feasibility:
    """Start the record: the first points may be as far off as `check_points` allows."""
    zeros = zeros_per_matrix(params)
    return Feasibility(jax.tree.map(lambda zero: zero + LOOSE, zeros), zeros)


def update_feasibility(
    call: str, state: Feasibility, params: optax.Params, updates: optax.Updates
) -> Feasibility:
    """Compare the points given with those that the last step reached.

    Args:
      call: the transformation, named in the error.
      state: the record so far.
      params: the points that were given.
      updates: the step from them, in their dtypes.

    Raises:
      ArgumentError: outside of `jax.jit`, if the points are further off the manifold
        than the last step left them.

    Notes:
      Four products with one vector a matrix, by which a root mean square is estimated:
      nothing beside a step's own products.
    """
    given = map_points(lambda _, point: _error(point), updates, params)
    reached = map_points(lambda step, point: _error(point + step), updates, params)

    def worse(error, allowed, excess, point):
        bound = _ROUNDING * float(jnp.finfo(jnp.result_type(point)).eps)
        above = error - allowed
        # NaN compares false: what is not finite is told by the loss.
        return jnp.maximum(excess, jnp.where(above > bound, above, 0.0))

    excess = jax.tree.map(worse, given, state.allowed, state.excess, params)
    allowed = jax.tree.map(jnp.maximum, given, reached)
    _raise_if_seen(call, excess)
    return Feasibility(allowed, excess)


def largest_excess(state: Any) -> list[Array]:
    """Excess of each group of points in the state of any optax transformation."""
    records = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, Feasibility))
    return [
        leaf
        for record in records
        if isinstance(record, Feasibility)
        for leaf in jax.tree.leaves(record.excess)
    ]


def check_on_manifold(state: Any) -> None:
    r"""Raise if an optimiser's steps were changed after it took them.

    Inside `jax.jit` an optimiser cannot raise: it records in its state by how much the
    points that it was given were further off the manifold than its last step left
    them. Read that after training, or whenever the loss is read.

    Args:
      state: of an optimiser of this room, or of any optax transformation that holds
        one (`optax.chain`, `optax.multi_transform`, `flax.nnx.Optimizer.opt_state`).

    Raises:
      SolveError: naming the largest root mean square of :math:`X^\top X - I` that was
        added, with the status OFF_MANIFOLD.
      ArgumentError: if `state` holds no record.

    Notes:
      Reads one number a matrix from the device.

    >>> import jaxalign as ja
    >>> point, optimizer = jnp.eye(2), ja.stiefel.riemannian_sgd(0.5)
    >>> check_on_manifold(optimizer.init(point))
    """
    found = largest_excess(state)
    if not found:
        raise ArgumentError(
            "check_on_manifold(state=...)",
            "the state of an optimizer of `ja.stiefel`",
            f"{type(state).__name__} without a record of steps",
            "pass what its `init` or `update` returned",
        )
    worst = _largest(found)
    if worst > 0:
        raise SolveError(
            f"`check_on_manifold`: {Status.OFF_MANIFOLD.name}: expected steps that end "
            f"on the manifold, got points that are further off by {worst:.2g}; "
            f"{_REMEDY}.",
            Status.OFF_MANIFOLD,
        )


def _raise_if_seen(call, excess):
    """Raise where the numbers have values here."""
    leaves = jax.tree.leaves(excess)
    if not all(can_be_seen(leaf) for leaf in leaves):
        return
    worst = _largest(leaves)
    if worst > 0:
        raise ArgumentError(
            f"{call}.update(params=...)",
            "points on the manifold as the last step left them",
            f"ones that are further off by {worst:.2g}",
            _REMEDY,
        )


def _largest(leaves):
    """Largest entry, on the host."""
    return max((float(np.max(np.asarray(leaf))) for leaf in leaves), default=0.0)


def _error(
    point: Float[Array, "*batch rows columns"],
) -> Float[Array, "*batch 1 1"]:
    """Estimate the root mean square of X'X - I by its product with one vector."""
    tall_point = flip(point) if point.shape[-2] < point.shape[-1] else point
    probe = jnp.asarray(_signs(tall_point.shape[-1]), point.dtype)
    image = product(flip(tall_point), product(tall_point, probe))
    change = image - jnp.broadcast_to(probe, image.shape)
    return jnp.sqrt(jnp.mean(jnp.square(change), axis=(-2, -1), keepdims=True))


@functools.cache
def _signs(count):
    """Signs drawn once, a constant of the program: ``(count, 1)``."""
    return np.random.default_rng(0).choice([-1.0, 1.0], (count, 1))
