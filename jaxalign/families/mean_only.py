# SPDX-License-Identifier: Apache-2.0
"""Means alone: rows are moved from one mean to the other and not turned."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from jaxalign.errors import ArgumentError
from jaxalign.families.family import Family, Solved
from jaxalign.moments import Moments
from jaxalign.status import Status


@dataclasses.dataclass(frozen=True)
class MeanOnly(Family):
    """The identity on centred rows, between equal widths: the baseline of a report."""

    name: ClassVar[str] = "mean_only"
    simplicity: ClassVar[int] = 1

    def solve(self, moments: Moments) -> Solved:
        """Return the identity, for each batch entry."""
        one = jnp.eye(moments.d_target, moments.d_source, dtype=moments.count.dtype)
        return Solved(
            matrix=jnp.broadcast_to(one, moments.cross_covariance.shape),
            status=jnp.full(moments.groups, Status.OK.value, jnp.int32),
            structure="isometry",
        )

    def check_widths(self, call: str, d_source: int, d_target: int) -> None:
        """Raise unless the widths are equal."""
        if d_source != d_target:
            raise ArgumentError(
                f"{call}(family=MeanOnly())",
                "equal widths",
                f"{d_source} and {d_target}",
                "use Orthogonal()",
            )

    def describe(self) -> str:
        """Say in a few words what the map is."""
        return "means alone"
