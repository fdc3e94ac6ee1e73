# SPDX-License-Identifier: Apache-2.0
"""What one frame for many models costs, and how far pairwise maps are from having one.

The measuring half of `solve_consensus`. Reference: Singer and Wu, "Vector diffusion
maps and the connection Laplacian", 2012, arXiv 1102.0075 (cycles as a test of frames).
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.moments import Moments
from jaxalign.precise import product


def frame_residual(
    part: Moments,
    source: Float[Array, "width d_source"],
    target: Float[Array, "width d_target"],
) -> Float[Array, ""]:
    """Squared distance of a pair's anchors in the frame, relative to their energy.

    NaN where a map forgets part of its rows and the moments hold no Gram.
    """
    narrowed = (source.shape[0] < source.shape[1], target.shape[0] < target.shape[1])
    energies = part.source_energy, part.target_energy
    if any(narrowed):
        if part.source_gram is None or part.target_gram is None:
            return jnp.full_like(part.source_energy, jnp.nan)
        energies = (
            jnp.sum(product(source, part.source_gram) * source),
            jnp.sum(product(target, part.target_gram) * target),
        )
    gained = jnp.sum(product(target, part.cross_covariance) * source)
    return relative_error(energies[0] + energies[1], gained)


def relative_error(
    energy: Float[Array, ""], gained: Float[Array, ""]
) -> Float[Array, ""]:
    """(E - 2 <map, C>) / E, at least 0: rounding may take a perfect fit below."""
    return jnp.maximum(energy - 2.0 * gained, 0.0) / jnp.where(energy > 0, energy, 1.0)


def triangles_of(
    pairs: Sequence[tuple[int, int]],
) -> Iterator[tuple[int, int, int]]:
    """Triples of models of which all three pairs were given."""
    linked = {frozenset(pair) for pair in pairs}
    models = sorted({model for pair in pairs for model in pair})
    for triple in itertools.combinations(models, 3):
        if all(frozenset(two) in linked for two in itertools.combinations(triple, 2)):
            yield triple


def cycle_error(
    found: Mapping[tuple[int, int], tuple[Array, Array, Array]],
    triangle: tuple[int, int, int],
) -> Float[Array, ""]:
    """Take the first pair's directions round the triangle by the pairwise maps.

    Args:
      found: by pair, its own best map ``(d_j, d_i)``, and the singular values ``(k,)``
        and right singular vectors ``(k, d_i)`` of its cross-covariance.
      triangle: three models, each two of which are a pair in either order.

    Returns:
      Root mean square distance, 0 to 2, of a unit direction from where it comes to lie.
    """

    def leg(i, j):
        return found[i, j][0] if (i, j) in found else found[j, i][0].T

    i, j, k = triangle
    if (i, j) not in found:
        i, j = j, i
    _, weights, directions = found[i, j]
    # (d_i, d_i): from i to j to k and back
    around = product(leg(k, i), product(leg(j, k), leg(i, j)))
    moved = product(around, directions.T) - directions.T
    total = jnp.sum(weights)
    squares = jnp.sum(jnp.square(moved), axis=0)
    return jnp.sqrt(jnp.sum(weights * squares) / jnp.where(total > 0, total, 1.0))
