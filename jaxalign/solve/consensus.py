# SPDX-License-Identifier: Apache-2.0
r"""One canonical frame for many models: generalised Procrustes from moments of pairs.

Fitting every pair of M models by itself gives maps that do not agree along a cycle.
Here each model has one map to a frame common to all, and the map from model i to j is
:math:`R_j^\top R_i`: M maps in place of M^2, consistent by construction. How far the
pairwise maps disagree is measured and returned.

References: Gower, "Generalized Procrustes analysis", 1975; ten Berge, "Orthogonal
Procrustes rotation for two or more matrices", 1977; Singer and Wu, "Vector diffusion
maps and the connection Laplacian", 2012, arXiv 1102.0075 (the spectral start).
"""

import functools
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxalign.array_types import Array
from jaxalign.moments import Moments
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass, static_field
from jaxalign.solve.consensus_checks import check_pairs
from jaxalign.solve.consensus_errors import (
    cycle_error,
    frame_residual,
    relative_error,
    triangles_of,
)
from jaxalign.solve.polar import factor_one
from jaxalign.status import Checked, Status

Pairs = Sequence[tuple[int, int]]


@pytree_dataclass
class ConsensusSolution(Checked):
    """Maps of M models to one frame, and what it costs their P pairs.

    Attributes:
      rotations: one per model, ``(width, d_m)``, with orthonormal rows.
      residual: of each pair in the frame, relative to the energy of its two sides,
        ``(P,)``; NaN if a side is wider than the frame and no Gram is held.
      pair_residual: of each pair's own best map, ``(P,)``, to compare with; NaN for
        unequal widths.
      cycle_error: of each triangle, ``(T,)``: how far a unit direction comes to lie
        from itself once the three pairwise maps took it round, 0 to 2; root mean square
        over directions, weighted by the first pair's singular values.
      triangles: static; the models of each triangle.
      iterations: rounds over all models.
      converged: whether the last round found every map at rest, to rounding.
      status: a `Status` code.
    """

    made_by: ClassVar[str] = "solve_consensus"

    rotations: tuple[Float[Array, "width d"], ...]
    residual: Float[Array, " pairs"]
    pair_residual: Float[Array, " pairs"]
    cycle_error: Float[Array, " triangles"]
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]
    status: Int[Array, ""]
    triangles: tuple[tuple[int, int, int], ...] = static_field()

    def between(self, source: int, target: int) -> Float[Array, "d_target d_source"]:
        """Map from one model's centred rows to another's, through the frame."""
        return product(self.rotations[target].T, self.rotations[source])


def solve_consensus(
    pair_moments: Sequence[Moments] | Moments,
    pairs: Pairs,
    *,
    width: int | None = None,
    max_iterations: int = 200,
) -> ConsensusSolution:
    r"""Fit one map per model to a frame common to all, from moments of pairs.

    Maximises :math:`\sum_{(i, j)} \langle R_j^\top R_i, C_{ij} \rangle`, where
    :math:`C_{ij}` is the cross-covariance of the pair with source :math:`i` and target
    :math:`j`; for equal widths that minimises
    :math:`\sum_{(i, j)} \sum_a |R_i x_a - R_j y_a|^2`, every anchor pair counting once.

    Args:
      pair_moments: of each pair, in the order of `pairs`; a list, or one Moments with a
        leading axis of pairs. Grams only where models are wider than the frame.
      pairs: static; ``(source, target)`` indices of models, 0 to M - 1, that connect
        all of them. Not every pair is needed, nor the same anchors for all.
      width: static; of the frame, at most the narrowest model's. Default: that width.
      max_iterations: static; rounds over all models.

    Returns:
      The solution. The frame is turned so that the leading square block of model 0's
      map is symmetric and positive: it is the identity if the widths are equal.

    Raises:
      ValueError: if moments and pairs do not fit, or leave a model unconnected.

    Notes:
      Starts from the bottom eigenvectors of the connection Laplacian of the pairwise
      maps, exact where these agree; then one model's map is solved after another, which
      never lowers the objective. The optimum may be local. RANK_DEFICIENT says that
      some model's map is not unique. Models wider than the frame maximise the trace, as
      `solve_procrustes` does without Grams. Cost O((M d)^3) once, then O((M + P) d^3)
      a round. Not differentiable.

    >>> from jaxalign.moments import init_moments, update_moments
    >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    >>> turn = jnp.array([[0.0, -1.0], [1.0, 0.0]])
    >>> moments = update_moments(init_moments(2, 2), x, x @ turn.T)
    >>> found = solve_consensus([moments], [(0, 1)])
    >>> bool(jnp.allclose(found.between(0, 1), turn, atol=1e-4))
    True
    """
    parts, widths, chosen = check_pairs(pair_moments, pairs, width, max_iterations)
    return _solve(
        parts,
        pairs=tuple((int(i), int(j)) for i, j in pairs),
        widths=widths,
        width=chosen,
        max_iterations=max_iterations,
    )


@functools.partial(
    jax.jit, static_argnames=("pairs", "widths", "width", "max_iterations")
)
def _solve(parts, *, pairs, widths, width, max_iterations):
    """Start, alternate, fix the gauge, measure."""
    crosses = [part.cross_covariance for part in parts]
    spectra = [jnp.linalg.svd(cross, full_matrices=False) for cross in crosses]
    direct = [product(u, vt) for u, _, vt in spectra]
    strengths = [jnp.sum(s) for _, s, _ in spectra]
    start = _spectral_start(direct, strengths, pairs, widths, width)
    rotations, iterations, converged = _alternate(crosses, start, pairs, max_iterations)
    gauge, _, _ = factor_one(rotations[0][:, :width], method="svd")
    rotations = [product(gauge.T, rotation) for rotation in rotations]
    unique = jnp.all(
        jnp.stack(
            [
                _has_full_rank(_pull(crosses, rotations, pairs, model))
                for model in range(len(widths))
            ]
        )
    )
    found = {
        (i, j): (matrix, spectrum[1], spectrum[2])
        for (i, j), matrix, spectrum in zip(pairs, direct, spectra, strict=True)
    }
    triangles = tuple(triangles_of(pairs))
    cycles = [cycle_error(found, triangle) for triangle in triangles]
    empty = jnp.zeros((0,), crosses[0].dtype)
    finite = jnp.stack([jnp.all(jnp.isfinite(r)) for r in rotations]).all()
    rows = jnp.stack([part.rows for part in parts])
    return ConsensusSolution(
        rotations=tuple(rotations),
        residual=jnp.stack(
            [
                frame_residual(part, rotations[i], rotations[j])
                for part, (i, j) in zip(parts, pairs, strict=True)
            ]
        ),
        pair_residual=jnp.stack(
            [
                relative_error(part.source_energy + part.target_energy, strength)
                if part.d_source == part.d_target
                else jnp.full_like(strength, jnp.nan)
                for part, strength in zip(parts, strengths, strict=True)
            ]
        ),
        cycle_error=jnp.stack(cycles) if cycles else empty,
        iterations=iterations,
        converged=converged,
        status=jnp.select(
            [~finite, jnp.any(rows < 2), ~converged, ~unique],
            [
                jnp.int32(Status.NON_FINITE),
                jnp.int32(Status.TOO_FEW_ANCHORS),
                jnp.int32(Status.NOT_CONVERGED),
                jnp.int32(Status.RANK_DEFICIENT),
            ],
            jnp.int32(Status.OK),
        ),
        triangles=triangles,
    )


def _spectral_start(direct, strengths, pairs, widths, width):
    """Polar factors of the blocks of the connection Laplacian's bottom eigenvectors."""
    starts = [sum(widths[:m]) for m in range(len(widths) + 1)]
    total = sum(strengths)
    laplacian = jnp.zeros((starts[-1], starts[-1]), direct[0].dtype)
    for matrix, strength, (i, j) in zip(direct, strengths, pairs, strict=True):
        share = strength / jnp.where(total > 0, total, 1.0)
        source = slice(starts[i], starts[i + 1])
        target = slice(starts[j], starts[j + 1])
        laplacian = laplacian.at[target, source].add(-share * matrix)
        laplacian = laplacian.at[source, target].add(-share * matrix.T)
        for block in (source, target):
            size = block.stop - block.start
            laplacian = laplacian.at[block, block].add(
                share * jnp.eye(size, dtype=share.dtype)
            )
    _, vectors = jnp.linalg.eigh(laplacian)
    blocks = [vectors[starts[m] : starts[m + 1], :width].T for m in range(len(widths))]
    return [factor_one(block, method="svd")[0] for block in blocks]


def _alternate(crosses, start, pairs, max_iterations):
    """Solve one model's map after another until no map is pulled along its manifold."""
    enough = float(jnp.finfo(crosses[0].dtype).eps) ** 0.75

    def step(state):
        rotations, _, steps = state
        forces = []
        for model in range(len(rotations)):
            pull = _pull(crosses, rotations, pairs, model)
            forces.append(_force(pull, rotations[model]))
            rotations = list(rotations)
            rotations[model], _, _ = factor_one(pull, method="svd")
        return rotations, jnp.max(jnp.stack(forces)), steps + 1

    def unfinished(state):
        _, force, steps = state
        return (force > enough) & (steps < max_iterations)

    state = (start, jnp.full((), 1.0, crosses[0].dtype), jnp.int32(0))
    rotations, force, steps = jax.lax.while_loop(unfinished, step, state)
    return rotations, steps, force <= enough


def _force(pull, rotation):
    """Part of the pull that is tangent to the maps with orthonormal rows, relative."""
    across = product(pull, rotation.T)
    tangent = pull - product(0.5 * (across + across.T), rotation)
    size = jnp.linalg.norm(pull)
    return jnp.linalg.norm(tangent) / jnp.where(size > 0, size, 1.0)


def _pull(crosses, rotations, pairs, model):
    """Sum of what the model's partners, in the frame, ask of its map."""
    pull = jnp.zeros_like(rotations[model])
    for cross, (i, j) in zip(crosses, pairs, strict=True):
        if i == model:
            # (width, d_j) @ (d_j, d_i)
            pull = pull + product(rotations[j], cross)
        if j == model:
            pull = pull + product(rotations[i], cross.T)
    return pull


def _has_full_rank(pull):
    """Whether the last map was unique, by its singular values."""
    values = jnp.linalg.svd(pull, compute_uv=False)
    return values[-1] > values[0] * max(pull.shape) * float(jnp.finfo(pull.dtype).eps)
