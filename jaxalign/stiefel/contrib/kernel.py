# SPDX-License-Identifier: Apache-2.0
r"""Agreement of two models' similarity kernels as an objective, from moments alone.

A search compares a query with reference rows, and sees the map only through these
similarities. With reference rows R (texts, say) the aligned anchors' table
:math:`X Q^\top R^\top` should be the target model's own, :math:`Y R^\top`; directions
along which the references do not differ are free to err.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.moments import Moments
from jaxalign.moments.statistics import check_moments
from jaxalign.pytrees import pytree_dataclass
from jaxalign.stiefel.objectives.least_squares import held_grams
from jaxalign.stiefel.objectives.points import (
    StartsFromCross,
    add,
    as_point,
    broadcast_product,
    inner,
    per_count,
    quadratic_form,
)


@pytree_dataclass
class KernelObjective(StartsFromCross):
    """Mean squared difference of two similarity tables; make it by its factory.

    Attributes:
      energy: of the target's own table, a mean, ``(*g)``.
      cross: cross-covariance of the anchors, a mean, ``(*g, d_target, d_source)``.
      weighted: M C, a mean, of that shape.
      gram: of the source anchors, a mean, ``(*g, d_source, d_source)``.
      reference: M, ``(*g, d_target, d_target)``.
    """

    energy: Float[Array, "*g"]
    cross: Float[Array, "*g d_target d_source"]
    weighted: Float[Array, "*g d_target d_source"]
    gram: Float[Array, "*g d_source d_source"]
    reference: Float[Array, "*g d_target d_target"]

    def __call__(
        self, point: Float[ArrayLike, "*batch d_target d_source"]
    ) -> Float[Array, "..."]:
        """Value at each point, shape: the leading axes of point and data, broadcast."""
        point = as_point("kernel_objective", point, self.cross)
        own = quadratic_form(point, self.gram, self.reference)
        return add(self.energy, add(own, -2.0 * inner(point, self.weighted)))


def kernel_objective(
    moments: Moments, reference_gram: Float[ArrayLike, "*g d_target d_target"]
) -> KernelObjective:
    r"""Make the objective of agreeing similarities to reference rows of the target.

    .. math::

        f(Q) = \mathrm{tr}\,M (Q G_x Q^\top - Q C^\top - C Q^\top + G_y) / n
             = \frac1n \sum_i \frac1m \sum_j (\langle Q x_i, r_j \rangle
               - \langle y_i, r_j \rangle)^2

    with centred anchors :math:`x_i, y_i`, whose ``moments`` hold the Grams
    :math:`G_x, G_y`, the cross-covariance :math:`C` and the count :math:`n`, and
    ``reference_gram`` :math:`M = \frac1m \sum_j r_j r_j^\top`.

    Args:
      moments: of the anchors, with Grams; leading axes are problems.
      reference_gram: M, symmetric, ``(..., d_target, d_target)``, see
        `reference_gram`: of target texts for the image-text kernel, of target images
        for the image-image kernel.

    Returns:
      The objective, at least 0 up to rounding.

    Raises:
      ArgumentError: if `moments` is no `Moments` or holds no Grams, or widths differ.

    Notes:
      Two products, O(d^3), an evaluation, with or without the gradient. With
      :math:`M = I` it is `least_squares_objective`. Directions in which the references
      have no spread are not determined: fewer references than dimensions leave part
      of Q free. To have the aligned texts agree with the target images as well, add
      the objective of the texts' moments and the images' Gram by `weighted_objective`.

    References:
      Gupta, Kansal, Jegelka, Isola, Garg, "Canonicalizing Multimodal Contrastive
      Representation Learning", arXiv 2602.17584 (maps from agreeing kernels).

    >>> import jaxalign as ja
    >>> rows = jnp.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -2.0]])
    >>> moments = ja.moments.init_moments(2, 2, grams=True)
    >>> moments = ja.moments.update_moments(moments, rows, rows)
    >>> objective = kernel_objective(moments, jnp.diag(jnp.array([1.0, 0.0])))
    >>> abs(float(objective(jnp.diag(jnp.array([1.0, -1.0]))))) < 1e-5  # unseen
    True
    """
    check_moments("kernel_objective", moments)
    gram, target_gram = held_grams("kernel_objective", moments)
    shape = np.shape(reference_gram)
    if shape[-2:] != (moments.d_target, moments.d_target):
        raise ArgumentError(
            "kernel_objective(reference_gram=...)",
            f"shape (..., {moments.d_target}, {moments.d_target}), of rows in the "
            "target space",
            shape,
            "make it by `reference_gram(moments of the references)`",
        )
    reference = jnp.asarray(reference_gram).astype(gram.dtype)
    own = per_count(target_gram, moments.count)
    cross = per_count(moments.cross_covariance, moments.count)
    return KernelObjective(
        energy=inner(reference, own),
        cross=cross,
        weighted=broadcast_product(reference, cross),
        gram=per_count(gram, moments.count),
        reference=reference,
    )


def reference_gram(
    moments: Moments, *, centred: bool = True
) -> Float[Array, "*g d_target d_target"]:
    r"""Take the references' Gram from moments whose TARGET side they are.

    Args:
      moments: with Grams, such as those of the texts of both models.
      centred: static; of the rows about their mean. Then a difference that is the same
        for all references costs nothing: it changes no ranking and no softmax of a
        query. If false, of the rows as they are, so that similarities agree in value:
        adds :math:`\bar r \bar r^\top`.

    Returns:
      :math:`\frac1m \sum_j r_j r_j^\top`, ``(..., d_target, d_target)``.

    Raises:
      ArgumentError: if `moments` is no `Moments`, or holds no Grams.

    >>> import jaxalign as ja
    >>> rows = jnp.array([[1.0, 2.0], [1.0, -2.0]])
    >>> empty = ja.moments.init_moments(2, 2, grams=True)
    >>> texts = ja.moments.update_moments(empty, rows, rows)
    >>> spread = jnp.diag(jnp.array([0.0, 4.0]))
    >>> bool(jnp.allclose(reference_gram(texts), spread, atol=1e-6))
    True
    >>> found = reference_gram(texts, centred=False)
    >>> bool(jnp.allclose(found, jnp.diag(jnp.array([1.0, 4.0])), atol=1e-6))
    True
    """
    check_moments("reference_gram", moments)
    _, gram = held_grams("reference_gram", moments)
    found = per_count(gram, moments.count)
    if centred:
        return found
    mean = moments.target_mean
    return found + mean[..., :, None] * mean[..., None, :]
