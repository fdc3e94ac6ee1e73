# SPDX-License-Identifier: Apache-2.0
"""Trees of Stiefel points as optax hands them over: what every transformation needs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from jaxalign.errors import ArgumentError
from jaxalign.float_rows import wide_dtype

# Half precision rounds orthonormal columns this far apart; a matrix that was never
# orthonormal is off by 0.1 and more.
LOOSE = 2e-2


def map_points(function: Callable[..., Any], updates: optax.Updates, *trees: Any):
    """Apply `function` to each matrix, in float32 at least.

    Args:
      function: from an update, and the leaves of `trees` beside it, to an array.
      updates: a tree; what optax has masked is no leaf.
      trees: of the same structure.
    """

    def widened(*leaves):
        dtype = max(map(_wide, leaves), key=lambda one: one.itemsize)
        return function(*(jnp.asarray(leaf).astype(dtype) for leaf in leaves))

    return jax.tree.map(widened, updates, *trees)


def check_updates(call: str, params: Any) -> Any:
    """Return the points that an update starts from; raise without any."""
    if params is None:
        raise ArgumentError(
            call,
            "params in `update(updates, state, params)`",
            "None: a step on the manifold depends on the point that it starts from",
            "pass the current points as params",
        )
    return params


def check_points(call: str, params: object) -> None:
    """Raise for parameters that are not Stiefel points, where values can be seen.

    Raises:
      ArgumentError: naming the leaf, if it is no floating matrix, or (outside of
        `jax.jit`, where there is a value to look at) not orthonormal.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "params"
        shape, dtype = jnp.shape(leaf), jnp.result_type(leaf)
        remedy = (
            "give this optimizer the orthonormal parameters alone, by "
            "`optax.multi_transform` with `ja.stiefel.label_paths`"
        )
        if len(shape) < 2 or 0 in shape or not jnp.issubdtype(dtype, jnp.floating):
            raise ArgumentError(
                f"{call}.init(params)",
                "floating matrices (..., rows, columns)",
                f"{dtype} of shape {shape} at {name!r}",
                remedy,
            )
        if not can_be_seen(leaf):
            continue
        error = _orthogonality_error(np.asarray(leaf, np.float64))
        if not error <= LOOSE:
            raise ArgumentError(
                f"{call}.init(params)",
                f"orthonormal columns (rows, if they are fewer) at {name!r}",
                f"|Q'Q - I| = {error:.2g}",
                "start from `ja.solve.polar_factor(weight).factor` or "
                f"`ja.stiefel.random_point`, or {remedy}",
            )


def can_be_seen(leaf: Any) -> bool:
    """Whether a leaf has values here: no tracer, no part of another process's."""
    if isinstance(leaf, jax.Array):
        return not isinstance(leaf, Tracer) and leaf.is_fully_addressable
    return isinstance(leaf, np.ndarray)


def _orthogonality_error(points):
    """Measure on the host: inside `jax.jit` any JAX operation would be traced."""
    if points.shape[-2] < points.shape[-1]:
        points = np.swapaxes(points, -1, -2)
    gram = np.swapaxes(points, -1, -2) @ points
    return float(np.max(np.abs(gram - np.eye(gram.shape[-1]))))


def _wide(leaf) -> np.dtype:
    """Return the dtype to compute in; a gradient of integers is computed in float32."""
    dtype = jnp.result_type(leaf)
    floating = jnp.issubdtype(dtype, jnp.floating)
    return wide_dtype(dtype) if floating else np.dtype(np.float32)


def zeros_per_matrix(params: optax.Params):
    """Make one zero for each matrix, shape ``(*batch, 1, 1)``, lying where it lies."""

    def zero(leaf):
        leaf = jnp.asarray(leaf)
        dtype = _wide(leaf)
        # A sum, so that a batch that is split over devices stays split.
        return jnp.sum(jnp.zeros_like(leaf, dtype), axis=(-2, -1), keepdims=True)

    return jax.tree.map(zero, params)
