# SPDX-License-Identifier: Apache-2.0
"""What every objective does with its point: check it, pair it with data, multiply.

Leading axes of the point and of the data broadcast; ranks are made equal first, since
silent rank promotion is an error here.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.precise import product
from jaxalign.solve.polar import polar_factor


def as_point(
    call: str,
    point: Float[ArrayLike, "..."],
    like: jax.Array | jax.ShapeDtypeStruct,
) -> Float[Array, "..."]:
    """Bring a point to the dtype of the data, or refuse one of another shape.

    Args:
      call: of the objective, for the message.
      point: ``(*batch, d_target, d_source)``.
      like: a matrix of the data, ``(*g, d_target, d_source)``.

    Raises:
      ArgumentError: if the last two axes differ.
    """
    shape = getattr(point, "shape", (type(point).__name__,))
    if shape[-2:] != like.shape[-2:]:
        raise ArgumentError(
            f"{call}(...)(point)",
            f"shape (..., {like.shape[-2]}, {like.shape[-1]}), a map from source to "
            "target",
            shape,
            "transpose a map of the other direction",
        )
    return jnp.asarray(point).astype(like.dtype)


def broadcast_product(
    left: Float[Array, "..."], right: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Matrix product in full precision, over leading axes that broadcast."""
    rank = max(left.ndim, right.ndim)
    return product(lift(left, rank), lift(right, rank))


def inner(left: Float[Array, "..."], right: Float[Array, "..."]) -> Float[Array, "..."]:
    """Frobenius inner product over the last two axes; the leading ones broadcast."""
    rank = max(left.ndim, right.ndim)
    return jnp.sum(lift(left, rank) * lift(right, rank), axis=(-2, -1))


def lift(array: jax.Array, rank: int) -> jax.Array:
    """Give an array leading axes of size 1 up to `rank`."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def add(left: Float[Array, "..."], right: Float[Array, "..."]) -> Float[Array, "..."]:
    """Sum of values, or of matrices, whose leading axes broadcast."""
    rank = max(left.ndim, right.ndim)
    return lift(left, rank) + lift(right, rank)


def over_problems(
    function: Callable[..., jax.Array], signature: str, *arrays: jax.Array
) -> jax.Array:
    """Evaluate one problem's function on leading axes that broadcast.

    Args:
      function: of arrays without leading axes, to a number.
      signature: as of `jnp.vectorize`, of the arguments: ``"(t,s),(n,s)"``.
      *arrays: in that order; what has no leading axes is not copied.
    """
    axes = [core.count(",") + bool(core) for core in signature[1:-1].split("),(")]
    leading = max(one.ndim - own for one, own in zip(arrays, axes, strict=True))
    lifted = [lift(one, leading + own) for one, own in zip(arrays, axes, strict=True)]
    return jnp.vectorize(function, signature=signature + "->()")(*lifted)


@jax.custom_jvp
def quadratic_form(
    point: Float[Array, "..."],
    gram: Float[Array, "..."],
    reference: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    r"""Evaluate :math:`\mathrm{tr}(M Q G Q^\top)` for symmetric M and G.

    The derivative in Q is :math:`2 M Q G`, of the products that the value took anyway;
    differentiated term by term it would cost them twice.

    Args:
      point: Q, ``(*batch, d_target, d_source)``.
      gram: G, ``(*g, d_source, d_source)``.
      reference: M, ``(*g, d_target, d_target)``; None is the identity.
    """
    return inner(_image(point, gram, reference), point)


def _quadratic_form_jvp(primals, tangents):
    point, gram, reference = primals
    by_point, by_gram, by_reference = tangents
    image = _image(point, gram, reference)
    value = inner(image, point)
    change = jnp.zeros_like(value)
    # What is not differentiated costs no product.
    if not isinstance(by_point, SymbolicZero):
        change += 2.0 * inner(image, by_point)
    if not isinstance(by_gram, SymbolicZero):
        change += inner(_image(point, by_gram, reference), point)
    if reference is not None and not isinstance(by_reference, SymbolicZero):
        change += inner(_image(point, gram, by_reference), point)
    return value, change


quadratic_form.defjvp(_quadratic_form_jvp, symbolic_zeros=True)


def _image(point, gram, reference):
    """M Q G."""
    # (..., d_target, d_source) @ (..., d_source, d_source)
    turned = product(point, gram)
    return turned if reference is None else product(reference, turned)


def per_count(
    sums: Float[Array, "..."], count: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Divide sums by the count of their problem; no anchors at all give 0."""
    safe = jnp.where(count > 0, count, jnp.ones_like(count))
    return sums / safe.reshape(safe.shape + (1,) * (sums.ndim - safe.ndim))


def polar_start(matrix: Float[Array, "..."]) -> Float[Array, "..."]:
    """Point of the largest inner product with `matrix`: the trace solution."""
    return polar_factor(matrix).factor


class StartsFromCross:
    """An objective that starts from the polar factor of a cross-covariance.

    That is the optimum of Procrustes, and near that of its relatives: each factory says
    how near.
    """

    cross: jax.Array

    def start_matrix(self) -> Float[Array, "*g d_target d_source"]:
        """Matrix whose polar factor is `closed_form_start`."""
        return self.cross

    def closed_form_start(self) -> Float[Array, "*g d_target d_source"]:
        """Find the point of the largest inner product with `start_matrix`."""
        return polar_start(self.start_matrix())
