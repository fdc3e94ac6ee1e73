# SPDX-License-Identifier: Apache-2.0
"""Weighted sum of objectives: images and texts together, or a loss and its anchor."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.pytrees import pytree_dataclass
from jaxalign.stiefel.objectives.points import add, polar_start


@pytree_dataclass
class WeightedObjective:
    """Sum of objectives times weights; make it by its factory.

    Attributes:
      parts: objectives, PyTrees.
      weights: one each, scalars.
    """

    parts: tuple[Any, ...]
    weights: tuple[Float[Array, ""], ...]

    def __call__(
        self, point: Float[ArrayLike, "*batch d_target d_source"]
    ) -> Float[Array, "..."]:
        """Value at each point, shape: the leading axes of point and data, broadcast."""
        return self._sum([part(point) for part in self.parts])

    def start_matrix(self) -> Float[Array, "*g d_target d_source"]:
        """Matrix whose polar factor is `closed_form_start`."""
        matrices = []
        for part in self.parts:
            if not hasattr(part, "start_matrix"):
                raise ArgumentError(
                    "weighted_objective(...).closed_form_start()",
                    "parts that have a closed form to start from",
                    f"one of {type(part).__name__}",
                    "start from that of another part",
                )
            matrices.append(part.start_matrix())
        return self._sum(matrices)

    def closed_form_start(self) -> Float[Array, "*g d_target d_source"]:
        """Find the polar factor of the weighted sum of the parts' matrices.

        The optimum if all parts are of `procrustes_objective`; else a start.

        Raises:
          ArgumentError: if a part has no closed form to start from.
        """
        return polar_start(self.start_matrix())

    def _sum(self, terms):
        """Weighted sum of arrays whose leading axes broadcast."""
        weighed = [
            weight.astype(term.dtype) * term
            for term, weight in zip(terms, self.weights, strict=True)
        ]
        return functools.reduce(add, weighed)


def weighted_objective(
    parts: Sequence[tuple[Any, float | Float[ArrayLike, ""]]],
) -> WeightedObjective:
    r"""Make a weighted sum of objectives of one map, such as of images and of texts.

    .. math:: f(Q) = \sum_k w_k f_k(Q)

    Args:
      parts: pairs :math:`(f_k, w_k)` of an objective, or any PyTree that maps a point
        to its value, and a weight of at least 0: a number or a scalar array (data, not
        static). Objectives are means per anchor, so weights do not depend on how many
        anchors each part has.

    Returns:
      The objective; its range and cost are those of the parts together.

    Raises:
      ArgumentError: if there are no parts, a part is no objective, or a weight that can
        be seen is negative.

    Notes:
      The optimum is ``closed_form_start()`` if all parts are of
      `procrustes_objective`: the polar factor of the weighted sum of their
      cross-covariances. These may then be merged into one, at the cost of one.

    References:
      Schoenemann, "A generalized solution of the orthogonal Procrustes problem", 1966
      (whose optimum is of any such sum).

    >>> import jaxalign as ja
    >>> rows = jnp.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -2.0]])
    >>> moments = ja.moments.update_moments(ja.moments.init_moments(2, 2), rows, rows)
    >>> from jaxalign.stiefel.objectives import procrustes_objective
    >>> images = procrustes_objective(moments)
    >>> both = weighted_objective([(images, 0.5), (images, 0.25)])
    >>> round(float(both(-jnp.eye(2)) / images(-jnp.eye(2))), 5)
    0.75
    """
    if not parts:
        raise ArgumentError(
            "weighted_objective(parts=...)",
            "at least one pair of an objective and its weight",
            "an empty sequence",
            "pass [(objective, 1.0)]",
        )
    weights = []
    for number, (part, weight) in enumerate(parts):
        if not callable(part):
            raise ArgumentError(
                "weighted_objective(parts=...)",
                f"an objective as part {number}",
                type(part).__name__,
                "the pair is (objective, weight)",
            )
        if isinstance(weight, float | int) and not weight >= 0:
            raise ArgumentError(
                "weighted_objective(parts=...)",
                f"a weight of at least 0 for part {number}",
                weight,
                "objectives are minimised, so what is to grow enters by an "
                "objective that falls",
            )
        dtype = jax.dtypes.canonicalize_dtype(float)
        weights.append(jnp.asarray(weight, dtype))
    return WeightedObjective(
        parts=tuple(part for part, _ in parts), weights=tuple(weights)
    )
