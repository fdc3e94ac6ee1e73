# SPDX-License-Identifier: Apache-2.0
"""First-order interval of a linear functional of Q: one gradient, no refit.

Reference: Jaeckel, "The infinitesimal jackknife", 1972.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import float_array
from jaxalign.moments import Moments, reduce_groups
from jaxalign.precise import HIGHEST, product
from jaxalign.solve.procrustes import solve_procrustes
from jaxalign.trust.frame import adjoint, block_sums, singular_frame
from jaxalign.trust.grouping import check_groups, degrees_of_freedom, flat_groups
from jaxalign.trust.intervals import Interval, check_level, student_interval


def rotation_interval(
    moments: Moments,
    direction: Float[ArrayLike, "d_target d_source"],
    *,
    level: float = 0.95,
    proper: bool = False,
) -> Interval:
    r"""First-order interval of a linear functional of Q, :math:`\langle A, Q \rangle`.

    An entry of Q, or the cosine :math:`y^\top Q x` between two fixed unit rows, with
    :math:`A = y x^\top` as ``direction``.

    Args:
      moments: of independent blocks of rows, at least 8, as for `delta_intervals`.
      direction: A, shape ``(d_target, d_source)``.
      level: static; share of data sets whose interval holds the truth.
      proper: static; of `solve_procrustes`.

    Returns:
      The interval, with the fitted value as `estimate`.

    Raises:
      ValueError: if there are fewer than 8 blocks, or `direction` has another shape.

    Notes:
      Cost O(G d_source d_target) after one SVD. First order: where Q errs by a angle
      :math:`\phi`, it leaves out a bias of :math:`\phi^2 / 2`. It says nothing of
      directions that the anchors do not determine.

    >>> from jaxalign.moments import init_moments, update_moments
    >>> rows = jax.random.normal(jax.random.key(0), (400, 3))
    >>> noisy = rows + 0.5 * jax.random.normal(jax.random.key(1), rows.shape)
    >>> moments = init_moments(3, 3, groups=16)
    >>> moments = update_moments(moments, rows, noisy, group=jnp.arange(400) % 16)
    >>> found = rotation_interval(moments, jnp.zeros((3, 3)).at[0, 1].set(1.0))
    >>> bool(found.low < 0 < found.high)
    True
    """
    check_groups("rotation_interval", moments)
    check_level("rotation_interval", level)
    wanted = (moments.d_target, moments.d_source)
    direction = float_array(
        "rotation_interval", "direction", direction, axes=2, expected=str(wanted)
    )
    if direction.shape != wanted:
        raise ArgumentError(
            "rotation_interval(direction=...)",
            f"shape {wanted}, that of the rotation",
            direction.shape,
            "pass y[:, None] * x[None, :]",
        )
    return _functional(moments, direction, level=level, proper=proper)


@functools.partial(jax.jit, static_argnames=("level", "proper"))
def _functional(moments, direction, *, level, proper):
    """Inner products of one gradient with the change that each block makes."""
    blocks = flat_groups(moments)
    whole = reduce_groups(blocks)
    solution = solve_procrustes(whole, proper=proper)
    direction = jnp.asarray(direction, whole.count.dtype)
    frame = singular_frame(whole.cross_covariance, solution.rank, proper=proper)
    gradient = adjoint(frame, direction)
    sums = block_sums(blocks, whole)
    # (G, d_source) @ (d_source, d_target), then row by row
    turned = product(sums.source, gradient.T)
    between = jnp.sum(turned * sums.target, axis=-1)
    within = jnp.tensordot(blocks.cross_covariance, gradient, 2, precision=HIGHEST)
    dof, factor = degrees_of_freedom(blocks.count)
    changes = within + sums.count * between
    return student_interval(
        jnp.sum(solution.rotation * direction),
        jnp.sqrt(factor * jnp.sum(jnp.square(changes))),
        dof,
        level=level,
        back=lambda value: value,
    )
