# SPDX-License-Identifier: Apache-2.0
r"""Tangent spaces and metrics of the Stiefel manifold.

Where optimisers begin: a gradient becomes a tangent vector here, and a retraction walks
along it. Points have orthonormal columns (rows, if there are fewer); with :math:`X`
tall or square the tangent vectors are the :math:`\xi` with :math:`X^\top \xi` skew.

Reference: Edelman, Arias, Smith, "The geometry of algorithms with orthogonality
constraints", 1998, arXiv physics/9806030.
"""

import functools
import typing
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import check_option
from jaxalign.precise import product
from jaxalign.stiefel.shapes import (
    as_given,
    as_tall,
    check_pair,
    flip,
)

Metric = Literal["euclidean", "canonical"]
METRICS: tuple[str, ...] = typing.get_args(Metric)


def project_tangent(
    point: Float[ArrayLike, "*batch rows columns"],
    vector: Float[ArrayLike, "*batch rows columns"],
) -> Float[Array, "*batch rows columns"]:
    r"""Project onto the tangent space, in the Euclidean metric.

    For ``point`` :math:`X` and ``vector`` :math:`V` it is
    :math:`V - X \operatorname{sym}(X^\top V)`; of a square point,
    :math:`X \operatorname{skew}(X^\top V)`, which is the same. Wide points are
    transposed.

    Args:
      point: shape ``(..., rows, columns)``, orthonormal along the shorter side.
      vector: of the same shape.

    Returns:
      The nearest tangent vector at `point`, in the point's dtype.

    Raises:
      ArgumentError: if the two are not floating matrices of one shape.

    Notes:
      Two products: of the longer side times the square of the shorter one. Half
      precision is computed in float32. No collectives if sharded on batch axes.

    >>> found = project_tangent(jnp.eye(2), jnp.array([[3.0, 4.0], [0.0, 5.0]]))
    >>> bool(jnp.allclose(found, jnp.array([[0.0, 2.0], [-2.0, 0.0]]), atol=1e-6))
    True
    """
    check_pair("project_tangent", "vector", point, vector)
    return _gradient(jnp.asarray(point), jnp.asarray(vector), metric="euclidean")


def riemannian_gradient(
    point: Float[ArrayLike, "*batch rows columns"],
    gradient: Float[ArrayLike, "*batch rows columns"],
    *,
    metric: Metric = "euclidean",
) -> Float[Array, "*batch rows columns"]:
    r"""Turn a gradient in the entries of a point into one on the manifold.

    For ``point`` :math:`X` and ``gradient`` :math:`G` it is
    :math:`G - X \operatorname{sym}(X^\top G)` in the Euclidean metric, and
    :math:`G - X G^\top X` in the canonical one.

    Args:
      point: shape ``(..., rows, columns)``, orthonormal along the shorter side.
      gradient: of the same shape, as `jax.grad` gives it.
      metric: static; ``"canonical"`` weighs turns within the columns' span half: of a
        square point its gradient is twice the Euclidean one.

    Returns:
      The tangent vector of steepest ascent, in the point's dtype.

    Raises:
      ArgumentError: if the two are not floating matrices of one shape, or `metric` is
        unknown.

    Notes:
      Two products either way, as `project_tangent`. No collectives if sharded on
      batch axes.

    References:
      Edelman, Arias, Smith, "The geometry of algorithms with orthogonality
      constraints", 1998, arXiv physics/9806030, section 2.4.

    >>> gradient = jnp.array([[3.0, 4.0], [0.0, 5.0]])
    >>> found = riemannian_gradient(jnp.eye(2), gradient, metric="canonical")
    >>> bool(jnp.allclose(found, jnp.array([[0.0, 4.0], [-4.0, 0.0]]), atol=1e-6))
    True
    """
    check_pair("riemannian_gradient", "gradient", point, gradient)
    check_metric("riemannian_gradient", metric)
    return _gradient(jnp.asarray(point), jnp.asarray(gradient), metric=metric)


@functools.partial(jax.jit, static_argnames="metric")
def _gradient(point, vector, *, metric):
    """Gradient of either metric; the Euclidean one is the projection."""
    x, v = as_tall(point), as_tall(vector)
    inner = product(flip(x), v)
    if x.shape[-2] == x.shape[-1]:
        # Skew to the last bit, however large the part that is projected away.
        turn = inner - flip(inner)
        found = product(x, turn if metric == "canonical" else 0.5 * turn)
    elif metric == "canonical":
        found = v - product(x, flip(inner))
    else:
        found = v - product(x, 0.5 * (inner + flip(inner)))
    return as_given(found, point)


def inner_product(
    point: Float[ArrayLike, "*batch rows columns"],
    left: Float[ArrayLike, "*batch rows columns"],
    right: Float[ArrayLike, "*batch rows columns"],
    *,
    metric: Metric = "euclidean",
) -> Float[Array, "*batch"]:
    r"""Multiply two tangent vectors in a metric of the manifold.

    The Euclidean metric is :math:`\langle \xi, \eta \rangle`, the canonical one
    :math:`\langle \xi, (I - X X^\top / 2) \eta \rangle`.

    Args:
      point: :math:`X`, shape ``(..., rows, columns)``.
      left: :math:`\xi`, tangent at `point`, of the same shape.
      right: :math:`\eta`, likewise.
      metric: static.

    Returns:
      The products, shape ``(...)``, in float32 at least.

    Raises:
      ArgumentError: if the three are not floating matrices of one shape, or `metric` is
        unknown.

    Notes:
      No product of matrices; two for the canonical metric of a point that is not
      square. No collectives if sharded on batch axes.

    >>> turn = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> round(float(inner_product(jnp.eye(2), turn, turn, metric="canonical")), 4)
    1.0
    """
    check_pair("inner_product", "left", point, left)
    check_pair("inner_product", "right", point, right)
    check_metric("inner_product", metric)
    arrays = (jnp.asarray(array) for array in (point, left, right))
    return _inner_product(*arrays, metric=metric)


@functools.partial(jax.jit, static_argnames="metric")
def _inner_product(point, left, right, *, metric):
    """Multiply entry by entry, less half of what lies in the columns' span."""
    x, a, b = as_tall(point), as_tall(left), as_tall(right)
    whole = jnp.sum(a * b, axis=(-2, -1))
    if metric == "euclidean":
        return whole
    if x.shape[-2] == x.shape[-1]:
        return 0.5 * whole
    within = product(flip(x), a) * product(flip(x), b)
    return whole - 0.5 * jnp.sum(within, axis=(-2, -1))


def tangent_norm(
    point: Float[ArrayLike, "*batch rows columns"],
    tangent: Float[ArrayLike, "*batch rows columns"],
    *,
    metric: Metric = "euclidean",
) -> Float[Array, "*batch"]:
    """Measure a tangent vector in a metric of the manifold.

    Args:
      point: shape ``(..., rows, columns)``.
      tangent: tangent at `point`, of the same shape.
      metric: static.

    Returns:
      The norms, shape ``(...)``, in float32 at least; the derivative at 0 is given
      as 0.

    Raises:
      ArgumentError: as `inner_product`.

    >>> turn = jnp.array([[0.0, 8.0], [-8.0, 0.0]])
    >>> round(float(tangent_norm(jnp.eye(2), turn, metric="canonical")), 4)
    8.0
    """
    check_pair("tangent_norm", "tangent", point, tangent)
    square = inner_product(point, tangent, tangent, metric=metric)
    # The root has no derivative at 0; rounding may leave less, and NaN is kept.
    null = square <= 0
    return jnp.where(null, 0.0, jnp.sqrt(jnp.where(null, 1.0, square)))


def transport(
    point: Float[ArrayLike, "*batch rows columns"],
    tangent: Float[ArrayLike, "*batch rows columns"],
) -> Float[Array, "*batch rows columns"]:
    """Carry a tangent vector of a nearby point to `point`, by projection.

    Args:
      point: where it is to be tangent, shape ``(..., rows, columns)``.
      tangent: tangent at another point, of the same shape.

    Returns:
      A tangent vector at `point`, not longer than `tangent`.

    Raises:
      ArgumentError: if the two are not floating matrices of one shape.

    Notes:
      Two products: it is `project_tangent`. To first order the parallel transport of
      the Euclidean metric along the way between.

    >>> bool(jnp.allclose(transport(jnp.eye(2), jnp.ones((2, 2))), 0.0, atol=1e-6))
    True
    """
    check_pair("transport", "tangent", point, tangent)
    return project_tangent(point, tangent)


def check_metric(call, metric):
    """Raise if the metric is unknown."""
    check_option(call, "metric", metric, METRICS)
