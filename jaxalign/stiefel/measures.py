# SPDX-License-Identifier: Apache-2.0
"""What a fit asks of its points at each step: values, gradients, norms, drift.

Points may be one array or a tree; a problem of a batch is one index of the leading axes
that the objective's values have.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jaxalign.array_types import Array
from jaxalign.errors import ArgumentError
from jaxalign.solve.polar import orthogonality_bound, orthogonality_error
from jaxalign.stiefel.geometry import project_tangent
from jaxalign.stiefel.steps import newton_schulz_step

PointTree = Any
"""An array of points, or a tree of such arrays."""


def value_and_gradient(
    objective: Callable[[PointTree], Array], point: PointTree
) -> tuple[Float[Array, "*batch"], PointTree]:
    """Evaluate every problem of a batch and its Euclidean gradient.

    Raises:
      ArgumentError: if the values have axes that the points do not lead with.
    """

    def total(point):
        values = jnp.asarray(objective(point))
        # Problems are independent: the gradient of the sum holds each one's own.
        return jnp.sum(values), values

    (_, values), gradient = jax.value_and_grad(total, has_aux=True)(point)
    for leaf in jax.tree.leaves(point):
        leading = leaf.shape[:-2]
        if leading[: values.ndim] != values.shape or values.ndim > len(leading):
            raise ArgumentError(
                "fit(objective=...)",
                "one value for each problem, of shape () or the points' leading axes",
                f"{values.shape} for points of shape {leaf.shape}",
                "return a mean over rows, and broadcast `init` to the batch",
            )
    return values, gradient


def gradient_norm(
    point: PointTree, gradient: PointTree, batch: int
) -> Float[Array, "*batch"]:
    """Norm of the Riemannian gradient (Euclidean metric) of each problem."""
    return per_problem(jax.tree.map(project_tangent, point, gradient), batch)


def per_problem(tree: PointTree, batch: int) -> Float[Array, "*batch"]:
    """Frobenius norm over all that belongs to one problem."""
    squares = [
        jnp.sum(jnp.square(leaf), axis=tuple(range(batch, leaf.ndim)))
        for leaf in jax.tree.leaves(tree)
    ]
    return jnp.sqrt(sum(squares[1:], start=squares[0]))


def drift(point: PointTree, batch: int) -> Float[Array, "*batch"]:
    """Largest entry of ``|Q'Q - I|`` in each problem."""
    worst = None
    for leaf in jax.tree.leaves(point):
        error = orthogonality_error(leaf)
        error = jnp.max(error, axis=tuple(range(batch, error.ndim)))
        worst = error if worst is None else jnp.maximum(worst, error)
    assert worst is not None  # `check_points` has seen a leaf
    return worst


def is_orthonormal(point: PointTree, batch: int) -> Bool[Array, "*batch"]:
    """Whether the points of each problem are orthonormal to rounding."""
    bound = max(orthogonality_bound(leaf) for leaf in jax.tree.leaves(point))
    return drift(point, batch) <= bound


def settle(point: PointTree) -> PointTree:
    """Correct drift to rounding; points may be as far off as landing leaves them."""

    def settled(leaf):
        # Each takes an error e to 3/4 e^2: from 0.5 six end at float64's rounding.
        for _ in range(6):
            leaf = newton_schulz_step(leaf)
        return leaf

    return jax.tree.map(settled, point)


def freeze(done: Bool[Array, "*batch"], updates: PointTree) -> PointTree:
    """Take back the updates of problems that are done."""
    zeros = jax.tree.map(jnp.zeros_like, updates)
    return choose(done, done, zeros, updates)


def choose(
    take: Bool[Array, "*batch"], shared: Bool[Array, "..."], taken: Any, other: Any
) -> Any:
    """Choose between the leaves of two trees, problem by problem.

    Args:
      take: whether a problem is that of `taken`.
      shared: the same for leaves without the leading axes of the batch, which all its
        problems share.
      taken: a tree of arrays.
      other: a tree of the same structure.
    """

    def chosen(left, right):
        left, right = jnp.asarray(left), jnp.asarray(right)
        if left.shape[: take.ndim] != take.shape:
            return jnp.where(shared, left, right)
        mask = take.reshape(*take.shape, *(1,) * (left.ndim - take.ndim))
        return jnp.where(mask, left, right)

    return jax.tree.map(chosen, taken, other)
