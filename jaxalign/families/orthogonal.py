# SPDX-License-Identifier: Apache-2.0
r"""The orthogonal family: distances are kept, on all directions or on determined ones.

With the cross-covariance :math:`C = U \Sigma V^\top` of the centred anchors,
``keep="all"`` is the rotation :math:`U V^\top` of the paper. n anchors determine at
most n - 1 directions of it. ``keep="identified"`` keeps these and carries the rest to
0: :math:`U_r V_r^\top`.

References:
  Schoenemann, "A generalized solution of the orthogonal Procrustes problem", 1966;
  Gupta, Kansal, Jegelka, Isola, Garg, "Canonicalizing Multimodal Contrastive
  Representation Learning", arXiv 2602.17584.
"""

import dataclasses
import functools
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from jaxalign.errors import ArgumentError, check_count
from jaxalign.families.family import Family, Solved
from jaxalign.moments import Moments
from jaxalign.solve.procrustes import (
    identified_directions,
    solve_leading,
    solve_procrustes,
)
from jaxalign.solve.scale import ORTHOGONAL_SCALE, Scale
from jaxalign.status import Status


@dataclasses.dataclass(frozen=True)
class Orthogonal(Family):
    r"""A rotation, or the part of one that the anchors determine.

    Attributes:
      keep: ``"identified"`` (default) keeps what the anchors determine; a number keeps
        at most so many of these directions, the leading ones; ``"all"`` is a whole
        rotation, arbitrary where the anchors do not determine it.
      proper: only rotations of determinant +1; with ``keep="all"`` alone.

    Notes:
      Where ``d_source > d_target`` the whole rotation minimises the squared error, by
      an iteration; its identified part maximises the trace, :math:`U_r V_r^\top`.
      Solving costs O(d^3) per batch entry. The default scale is "energy".
      Differentiable in the moments. Where directions are cut, the derivative holds
      their number fixed. It is NaN if the last direction kept and the first one cut
      have equal singular values, and so is every second derivative. The derivative of
      a whole rotation is NaN where the anchors do not determine it.

    >>> Orthogonal().describe()
    'identified part of the orthogonal map'
    """

    name: ClassVar[str] = "orthogonal"
    simplicity: ClassVar[int] = 0

    keep: Literal["all", "identified"] | int = "identified"
    proper: bool = False

    def __post_init__(self):
        if not isinstance(self.keep, str) or self.keep not in ("all", "identified"):
            keep = check_count(
                "Orthogonal",
                "keep",
                self.keep,
                remedy="pass 'all', 'identified', or the most directions to keep",
            )
            object.__setattr__(self, "keep", keep)
        object.__setattr__(self, "proper", bool(self.proper))
        if self.proper and self.keep != "all":
            raise ArgumentError(
                f"Orthogonal(proper=True, keep={self.keep!r})",
                "keep='all', since part of a rotation has no determinant",
                remedy="leave one of the two out",
            )

    @property
    def default_scale(self) -> Scale:
        """Aligned rows get the spread of the target rows."""
        return ORTHOGONAL_SCALE

    @property
    def may_be_partial(self) -> bool:
        """Whether the map keeps what the anchors determine only."""
        return self.keep != "all"

    @property
    def keeping_all(self) -> "Orthogonal":
        """The whole rotation."""
        return dataclasses.replace(self, keep="all")

    def solve(self, moments: Moments) -> Solved:
        """Solve Procrustes, batched over leading axes."""
        most = None if isinstance(self.keep, str) else jnp.int32(self.keep)
        return _solve(moments, most, whole=self.keep == "all", proper=self.proper)

    def describe(self) -> str:
        """Say in a few words what the map is."""
        part = {
            "all": "",
            "identified": "identified part of the ",
        }.get(str(self.keep), f"{self.keep} leading directions of the ")
        return f"{part}{'proper ' if self.proper else ''}orthogonal map"


class _Paper(Orthogonal):
    """The whole rotation, without a scale."""

    @property
    def default_scale(self) -> Scale:
        """Rows keep the source's spread."""
        return "none"

    def describe(self) -> str:
        """Say in a few words what the map is."""
        return "paper's map"


PAPER: Orthogonal = _Paper(keep="all")
"""The map of arXiv 2602.17584: a whole rotation, rows not rescaled."""


@functools.partial(jax.jit, static_argnames=("whole", "proper"))
def _solve(moments, most, *, whole, proper):
    """Solve; the most directions to keep are data, so that all numbers share it."""
    if whole:
        solution = solve_procrustes(moments, proper=proper)
        if solution.objective != "trace":
            solution = _least_squares_or_trace(moments, solution, proper)
        directions = identified_directions(moments, solution.rank)
    else:
        solution, directions = solve_leading(moments, most)
    return Solved(
        matrix=solution.rotation,
        status=solution.status,
        rank=solution.rank,
        directions=directions,
        structure="isometry" if whole else "partial_isometry",
    )


def _least_squares_or_trace(moments, solution, proper):
    """Take the trace where the rank is short: nothing decides between least squares."""
    if moments.d_source <= moments.d_target:
        return solution
    short = solution.status == Status.RANK_DEFICIENT

    def by_trace(_):
        other = solve_procrustes(moments, proper=proper, objective="trace")
        return jnp.where(short[..., None, None], other.rotation, solution.rotation)

    rotation = jax.lax.cond(
        jnp.any(short), by_trace, lambda rotation: rotation, solution.rotation
    )
    return dataclasses.replace(solution, rotation=rotation)
