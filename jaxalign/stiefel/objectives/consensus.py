# SPDX-License-Identifier: Apache-2.0
"""Several models to one frame as an objective of all their maps at once.

What `solve_consensus` reaches by solving one model after another, for optimisers that
move all of them in one step. Reference: Gower, "Generalized Procrustes analysis", 1975.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.errors import ArgumentError
from jaxalign.moments import Moments
from jaxalign.pytrees import pytree_dataclass, static_field
from jaxalign.solve.consensus import Pairs, solve_consensus
from jaxalign.solve.consensus_checks import check_pairs
from jaxalign.stiefel.objectives.points import broadcast_product, inner, quadratic_form

Points = Sequence[jax.Array] | jax.Array


@pytree_dataclass
class ConsensusObjective:
    """Mean squared disagreement of pairs in one frame; make it by its factory.

    Attributes:
      parts: moments of each pair.
      pairs: static; (source, target) models of each.
      widths: static; of each model.
      width: static; of the frame.
    """

    parts: tuple[Moments, ...]
    pairs: tuple[tuple[int, int], ...] = static_field()
    widths: tuple[int, ...] = static_field()
    width: int = static_field()

    def __call__(self, point: Points) -> Float[Array, "..."]:
        """Value of the maps of all models together, shape ``(*batch)``.

        Args:
          point: one map a model, ``(*batch, width, d_m)``: a sequence, or, if all
            widths are equal, one array ``(*batch, M, width, d)``.
        """
        maps = self._maps(point)
        total = anchors = 0.0
        for part, (i, j) in zip(self.parts, self.pairs, strict=True):
            sides = self._energy(part.source_energy, part.source_gram, maps[i])
            sides = sides + self._energy(part.target_energy, part.target_gram, maps[j])
            # (..., width, d_j) @ (d_j, d_i)
            pulled = broadcast_product(maps[j], part.cross_covariance)
            total = total + sides - 2.0 * inner(pulled, maps[i])
            anchors = anchors + part.count
        return total / jnp.where(anchors > 0, anchors, jnp.ones_like(anchors))

    def closed_form_start(self) -> Points:
        """Solve by `solve_consensus`: an array if all widths are equal, or a tuple."""
        found = solve_consensus(self.parts, self.pairs, width=self.width).rotations
        return jnp.stack(found) if len(set(self.widths)) == 1 else found

    def _energy(self, energy, gram, rotation):
        """Energy of one side in the frame: all of it, unless the frame is narrower."""
        if rotation.shape[-1] <= self.width:
            return energy
        return quadratic_form(rotation, gram, None)

    def _maps(self, point):
        """One map a model, in the dtype of the data, or an error."""
        if isinstance(point, jax.Array) or hasattr(point, "ndim"):
            stacked = jnp.asarray(point)
            if stacked.ndim < 3 or stacked.shape[-3] != len(self.widths):
                raise ArgumentError(
                    "consensus_objective(...)(point)",
                    f"shape (..., {len(self.widths)}, {self.width}, d), one map a "
                    "model",
                    stacked.shape,
                    "stack them as `solve_consensus` lists them",
                )
            point = [stacked[..., m, :, :] for m in range(len(self.widths))]
        maps = [jnp.asarray(one) for one in point]
        found = [one.shape[-2:] for one in maps]
        wanted = [(self.width, own) for own in self.widths]
        if found != wanted:
            raise ArgumentError(
                "consensus_objective(...)(point)",
                f"maps of shapes {wanted}",
                found,
                "a map goes from its model to the frame",
            )
        dtype = self.parts[0].count.dtype
        return [one.astype(dtype) for one in maps]


def consensus_objective(
    pair_moments: Sequence[Moments] | Moments,
    pairs: Pairs,
    *,
    width: int | None = None,
) -> ConsensusObjective:
    r"""Make the objective of several models' maps to one frame.

    .. math::

        f(R_1, \dots, R_M) = \frac1n \sum_{(i, j)} \sum_a |R_i x_a - R_j y_a|^2

    over the pairs :math:`(i, j)` of ``pairs`` and the centred anchors :math:`(x_a,
    y_a)` of each, :math:`n` of them in all: every anchor pair counts once, as in
    `solve_consensus`, whose arguments and convention these are.

    Args:
      pair_moments: of each pair, in the order of `pairs`; a list, or one Moments with a
        leading axis of pairs. With Grams where a model is wider than the frame.
      pairs: static; ``(source, target)`` indices of models, 0 to M - 1, that connect
        all of them.
      width: static; of the frame, at most the narrowest model's. Default: that width.

    Returns:
      The objective, at least 0 up to rounding. A point is one map ``(width, d_m)`` a
      model, of orthonormal rows: a sequence, or an array ``(M, width, d)``, which an
      optimiser takes for a batch of M points.

    Raises:
      ArgumentError: if moments and pairs do not fit, leave a model unconnected, or lack
        Grams that a narrower frame needs.

    Notes:
      Turning the frame changes nothing, so optima are never unique. For models no wider
      than the frame ``closed_form_start()`` is a stationary point, and as a rule the
      optimum; for wider ones that is of the trace, and here the error itself is
      measured. O(P d^3) an evaluation, twice that with the gradient.

    References:
      Gower, "Generalized Procrustes analysis", 1975.

    >>> import jaxalign as ja
    >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -2.0]])
    >>> moments = ja.moments.update_moments(ja.moments.init_moments(2, 2), x, -x)
    >>> objective = consensus_objective([moments], [(0, 1)])
    >>> abs(float(objective(jnp.stack([jnp.eye(2), -jnp.eye(2)])))) < 1e-5
    True
    """
    call = "consensus_objective"
    parts, widths, chosen = check_pairs(pair_moments, pairs, width, 1, call=call)
    for part, (i, j) in zip(parts, pairs, strict=True):
        if max(widths[i], widths[j]) > chosen and part.source_gram is None:
            raise ArgumentError(
                f"{call}(pair_moments=...)",
                f"moments with Gram matrices for the pair {(i, j)}, wider than the "
                f"frame of {chosen}",
                "moments without them",
                "make them by `init_moments(..., grams=True)`",
            )
    return ConsensusObjective(
        parts=tuple(jax.tree.map(jnp.asarray, part) for part in parts),
        pairs=tuple((int(i), int(j)) for i, j in pairs),
        widths=widths,
        width=chosen,
    )
