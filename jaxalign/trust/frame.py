# SPDX-License-Identifier: Apache-2.0
r"""How Q moves when C does, in the frame of C's singular vectors.

For :math:`C = U \Sigma V^\top` a change :math:`dC` turns :math:`Q = U V^\top` by
:math:`dQ = U \Omega V^\top + P_\perp`, with :math:`M = U^\top dC\, V`,
:math:`\Omega_{ij} = (M_{ij} - M_{ji}) / (s_i + s_j)` and, for unequal widths,
:math:`P_\perp = (I - U U^\top)\, dC\, V \Sigma^{-1} V^\top` or its mirror image.

Reference: Kenney, Laub, "Polar decomposition and matrix sign function condition
estimates", 1991.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.moments import Moments
from jaxalign.precise import product


class Frame(NamedTuple):
    """Singular frame of a cross-covariance, made tall.

    Attributes:
      u: ``(rows, k)``, of the wider side.
      s: ``(k,)``; the last one is negative where a proper rotation negates it.
      v: ``(k, k)``, of the narrower side.
      inverse_sums: ``1 / (s_i + s_j)``, 0 where rounding alone is left, ``(k, k)``.
      inverse: ``1 / s_j``, 0 likewise, ``(k,)``; 0 for equal widths.
      flipped: static; whether C was transposed because the source is wider.
    """

    u: Float[Array, "rows k"]
    s: Float[Array, " k"]
    v: Float[Array, "k k"]
    inverse_sums: Float[Array, "k k"]
    inverse: Float[Array, " k"]
    flipped: bool


def singular_frame(cross, rank, *, proper: bool) -> Frame:
    """Take the singular frame of one cross-covariance.

    Args:
      cross: ``(d_target, d_source)``.
      rank: of the fit; sums of two values beyond it count as nothing.
      proper: static; as in `solve_procrustes`.

    Returns:
      The frame, transposed where the source is wider.
    """
    flipped = cross.shape[0] < cross.shape[1]
    u, s, vt = jnp.linalg.svd(cross.T if flipped else cross, full_matrices=False)
    if proper:
        turned = jnp.linalg.det(product(u, vt)) < 0
        sign = jnp.where(turned, -1.0, 1.0).astype(u.dtype)
        u, s = u.at[:, -1].multiply(sign), s.at[-1].multiply(sign)
    found = jnp.arange(s.shape[0], dtype=jnp.int32) < rank
    cutoff = s[0] * max(cross.shape) * float(jnp.finfo(s.dtype).eps)
    sums = s[:, None] + s[None, :]
    known = (found[:, None] | found[None, :]) & (sums > cutoff)
    square = cross.shape[0] == cross.shape[1]
    return Frame(
        u=u,
        s=s,
        v=vt.T,
        inverse_sums=jnp.where(known, 1.0 / jnp.where(known, sums, 1.0), 0.0),
        inverse=jnp.where(
            found & (not square), 1.0 / jnp.where(found, s, jnp.ones_like(s)), 0.0
        ),
        flipped=flipped,
    )


def sensitivity(frame: Frame, rank) -> Float[Array, ""]:
    r"""Most that Q moves for an error in C: :math:`\max |dQ|_F / |dC|_F`.

    :math:`2 / (s_n + s_{n-1})` for square C of full rank, :math:`1 / s_n` for unequal
    widths; with fewer directions found, that of the identified part, :math:`1 / s_r`.
    """
    k = frame.s.shape[0]
    last = jnp.take(frame.s, jnp.maximum(rank - 1, 0))
    partial = 1.0 / last
    if frame.u.shape[0] != k:
        return partial
    # A sign, all that a 1 x 1 matrix has, does not move.
    full = jnp.zeros_like(last) if k == 1 else 2.0 / (frame.s[-1] + frame.s[-2])
    return jnp.where(rank < k, partial, full)


class Influence(NamedTuple):
    r"""What one block does to Q: squares that add up over blocks.

    Attributes:
      curvature: :math:`\langle dQ, dC \rangle`, the second derivative of the trace.
      turned: :math:`|dQ\\, v_j|^2` of each direction of the narrower side, ``(k,)``.
    """

    curvature: Float[Array, ""]
    turned: Float[Array, " k"]


def influence(frame: Frame, change) -> Influence:
    """Measure how Q answers to a change of C, ``(d_target, d_source)``."""
    change = change.T if frame.flipped else change
    # (rows, k) and (k, k)
    moved = product(change, frame.v)
    inside = product(frame.u.T, moved)
    skew = inside - inside.T
    turn = skew * frame.inverse_sums
    # What leaves the span of U; a difference of squares may round below 0.
    outside = jnp.sum(jnp.square(moved), axis=0) - jnp.sum(jnp.square(inside), axis=0)
    outside = jnp.maximum(outside, jnp.zeros_like(outside))
    return Influence(
        curvature=0.5 * jnp.sum(skew * turn) + jnp.sum(outside * frame.inverse),
        turned=jnp.sum(jnp.square(turn), axis=0) + outside * jnp.square(frame.inverse),
    )


def adjoint(frame: Frame, direction) -> Float[Array, "d_target d_source"]:
    r"""Gradient of :math:`\langle A, Q \rangle` with respect to C, A = `direction`."""
    direction = direction.T if frame.flipped else direction
    moved = product(direction, frame.v)
    inside = product(frame.u.T, moved)
    turn = (inside - inside.T) * frame.inverse_sums
    # (rows, k): the part within the span of U, then what leaves it.
    within = product(frame.u, inside)
    columns = product(frame.u, turn)
    columns = columns + (moved - within) * frame.inverse[None, :]
    gradient = product(columns, frame.v.T)
    return gradient.T if frame.flipped else gradient


class BlockSums(NamedTuple):
    """Derivatives of the sums with respect to the weight of each block.

    Attributes:
      source: mean of each block about the whole one, ``(G, d_source)``.
      target: the same of the target, ``(G, d_target)``.
      count: of each block, ``(G,)``.
      energies: source and target energy, ``(G,)`` each.
    """

    source: Float[Array, "g d_source"]
    target: Float[Array, "g d_target"]
    count: Float[Array, " g"]
    energies: tuple[Float[Array, " g"], Float[Array, " g"]]


def block_sums(blocks: Moments, whole: Moments) -> BlockSums:
    """First derivatives of count and energies; `change_of_block` gives that of C."""
    held = blocks.count > 0
    # The mean of an empty block is 0, which says nothing.
    source, target = (
        jnp.where(held[:, None], mean - middle[None, :], jnp.zeros_like(mean))
        for mean, middle in (
            (blocks.source_mean, whole.source_mean),
            (blocks.target_mean, whole.target_mean),
        )
    )

    def energy(within, mean):
        return within + blocks.count * jnp.sum(jnp.square(mean), axis=-1)

    energies = (
        energy(blocks.source_energy, source),
        energy(blocks.target_energy, target),
    )
    return BlockSums(source, target, blocks.count, energies)


def change_of_block(cross, source, target, count):
    """Derivative of C with respect to the weight of one block."""
    return cross + count * target[:, None] * source[None, :]


def total_influence(frame: Frame, blocks: Moments, whole: Moments) -> Influence:
    """Sum what all blocks do to Q, one after another: few d x d matrices are alive."""
    sums = block_sums(blocks, whole)

    def add(total, block):
        return jax.tree.map(
            jnp.add, total, influence(frame, change_of_block(*block))
        ), None

    zero = Influence(jnp.zeros_like(whole.count), jnp.zeros_like(frame.s))
    each = (blocks.cross_covariance, sums.source, sums.target, sums.count)
    return jax.lax.scan(add, zero, each)[0]
