# SPDX-License-Identifier: Apache-2.0
"""What a family of maps is: a frozen object with its options and its own fit.

A family that needs moments alone has a pure `solve`, batched over leading axes. One
that needs rows has a `fit` instead. Whatever a family is fitted from, it gives a
`Solved`; means, scales and residuals are the driver's business (`maps.fit`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxalign.anchors.anchors import Anchors
from jaxalign.array_types import Array, Modality
from jaxalign.errors import ArgumentError
from jaxalign.moments import Moments
from jaxalign.pytrees import pytree_dataclass, static_field
from jaxalign.solve.procrustes import Directions
from jaxalign.solve.scale import Scale
from jaxalign.status import Status

Structure = Literal["isometry", "partial_isometry", "general", "residual"]
"""What holds for the matrix M of a map.

An isometry has orthonormal columns, or rows if they are fewer. A partial isometry is
one on part of the space and 0 on the rest, M = M M' M. "general" is any matrix, and
"residual" any matrix plus a perceptron.
"""

Needs = Literal["cross", "grams", "rows"]
"""What a fit reads: the cross-covariance, Gram matrices too, or rows."""


@pytree_dataclass
class Solved:
    """What a family found; all arrays are batched alike.

    Attributes:
      matrix: M on centred rows, ``(*batch, d_target, d_source)``.
      status: `Status` codes, ``(*batch)``.
      rank: directions that the anchors determine, ``(*batch)``, int32; None where the
        anchors do not decide.
      directions: the directions that M keeps, which may be fewer; None: all.
      residual: of "residual" only, what is added to M x: see `residual_layer`.
      notes: numbers for the map's card, ``(*batch)`` each.
      structure: static.
    """

    matrix: Float[Array, "*batch d_target d_source"]
    status: Int[Array, "*batch"]
    rank: Int[Array, "*batch"] | None = None
    directions: Directions | None = None
    residual: dict[str, Float[Array, "..."]] | None = None
    notes: dict[str, Array] = dataclasses.field(default_factory=dict)
    structure: Structure = static_field(default="general")


@dataclasses.dataclass(frozen=True)
class Family:
    """Base of all families: what they share, and defaults.

    Attributes:
      name: in a map's card and in tables.
      needs: what a fit reads.
      simplicity: order in which a chooser prefers families that do equally well.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs] = "cross"
    simplicity: ClassVar[int]

    def __new__(cls, *args: Any, **options: Any):
        """Raise for a class that is no family of its own, such as this one."""
        if not hasattr(cls, "name"):
            raise ArgumentError(
                f"{cls.__name__}()",
                "a family with a `name`",
                "a class without one",
                "use one of `ja.families`, or set the class attribute `name`",
            )
        return super().__new__(cls)

    @property
    def default_scale(self) -> Scale:
        """Scale of a map where the fit names none."""
        return "none"

    @property
    def may_be_partial(self) -> bool:
        """Whether the map may keep part of the space, whose energy takes Grams."""
        return False

    @property
    def keeping_all(self) -> "Family":
        """The family that keeps all directions, where this one may keep fewer."""
        return self

    @property
    def tuned(self) -> bool:
        """Whether all options are set; if not, the driver calls `tune` first."""
        return True

    @property
    def holds_out(self) -> bool:
        """Whether a fit holds anchors out, to choose something on them."""
        return not self.tuned

    def tune(self, folds: Sequence[Moments] | Moments) -> "Family":
        """Choose what is open on held-out folds; moments of each, with Grams."""
        return self

    def solve(self, moments: Moments) -> Solved:
        """Solve from moments, batched over leading axes."""
        raise self._undefined("solve")

    def fit(
        self,
        anchors: Anchors,
        moments: Mapping[Modality, Moments],
        fit_on: Mapping[Modality, float],
        *,
        batch_size: int,
    ) -> Solved:
        """Fit on rows.

        Args:
          anchors: on the host.
          moments: of every modality.
          fit_on: weights of the modalities to fit on.
          batch_size: rows a batch.
        """
        raise self._undefined("fit")

    def check_widths(self, call: str, d_source: int, d_target: int) -> None:
        """Raise if the family has no map between these widths."""

    def describe(self) -> str:
        """Say in a few words what the map is."""
        return self.name.replace("_", " ")

    def to_json(self) -> dict[str, Any]:
        """Give the family as JSON values, for a map's card."""
        return {"name": self.name, **dataclasses.asdict(self)}

    def _undefined(self, method: str) -> ArgumentError:
        """Make the error of a method that a family does not define."""
        own = "fit" if self.needs == "rows" else "solve"
        return ArgumentError(
            f"{type(self).__name__}.{method}",
            f"a family that defines `{method}`",
            f"one without it, which needs {self.needs!r}",
            "define it in the class" if own == method else f"call `{own}`",
        )


def need_rows(call: str, family: Family) -> ArgumentError:
    """Make the error of a family that moments cannot fit."""
    return ArgumentError(
        f"{call}(family={family})",
        "a family that is fitted on moments",
        "one that needs rows",
        "pass Anchors, or pairs of rows, to `fit_map`",
    )


def ridge_words(ridge: float) -> str:
    """Name a ridge that is not the default."""
    return "" if ridge == 1.0 else f" (ridge {ridge:g})"


def status_of(finite: Array, rows: Int[Array, "*batch"]) -> Int[Array, "*batch"]:
    """Status of a solution that is unique: bad numbers, too few anchors, or OK."""
    return jnp.select(
        [~finite, rows < 2],
        [jnp.int32(Status.NON_FINITE), jnp.int32(Status.TOO_FEW_ANCHORS)],
        jnp.int32(Status.OK),
    )
