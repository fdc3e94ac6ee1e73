# SPDX-License-Identifier: Apache-2.0
"""Ridge regression: the general linear map that a rotation competes with."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from jaxalign.errors import check_number
from jaxalign.families.family import Family, Needs, Solved
from jaxalign.moments import Moments
from jaxalign.solve.linear import solve_linear
from jaxalign.solve.ridge_choice import choose_ridge


@dataclasses.dataclass(frozen=True)
class Ridge(Family):
    """``M = C (G_x + l I)^-1``, see `solve_linear`.

    Attributes:
      strength: l relative to the mean eigenvalue of the source Gram, above 0. Default:
        chosen by cross-validation on the anchors, whole groups held out
        (`choose_ridge`). Without a ridge see `LeastSquares`.
    """

    name: ClassVar[str] = "ridge"
    needs: ClassVar[Needs] = "grams"
    simplicity: ClassVar[int] = 2

    strength: float | None = None

    def __post_init__(self):
        if self.strength is not None:
            strength = check_number(
                "Ridge",
                "strength",
                self.strength,
                above=0.0,
                remedy="leave it out to choose it on held-out anchors; "
                "LeastSquares() has none",
            )
            object.__setattr__(self, "strength", strength)

    @property
    def tuned(self) -> bool:
        """Whether the strength is set."""
        return self.strength is not None

    def tune(self, folds: Sequence[Moments] | Moments) -> "Ridge":
        """Choose the strength by the error on held-out folds."""
        return Ridge(float(choose_ridge(folds).ridge))

    def solve(self, moments: Moments) -> Solved:
        """Solve ridge regression, batched over leading axes."""
        assert self.strength is not None
        # A number of the moments' dtype: all strengths share one program.
        solution = solve_linear(moments, ridge=float(self.strength))
        return Solved(
            matrix=solution.matrix,
            status=solution.status,
            rank=solution.rank,
            notes={"strength": solution.ridge},
        )
