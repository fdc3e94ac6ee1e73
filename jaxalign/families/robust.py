# SPDX-License-Identifier: Apache-2.0
"""Any family, fitted on the pairs that agree: wrong pairs lose their weight.

The weights that `solve_robust` finds multiply the user's. Then the inner family is
fitted its usual way, so that means, scales and residuals leave wrong pairs out too.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from jaxalign.anchors.anchors import Anchors
from jaxalign.anchors.inspection import as_float
from jaxalign.array_types import Modality
from jaxalign.errors import ArgumentError, check_option
from jaxalign.families.family import Family, Needs
from jaxalign.families.orthogonal import Orthogonal
from jaxalign.solve.robust import LOSSES, Loss, solve_robust
from jaxalign.solve.scale import Scale
from jaxalign.status import Status

# Share of its given weight below which a pair counts as rejected.
REJECTED = 0.1


@dataclasses.dataclass(frozen=True)
class Robust(Family):
    """A family fitted with robust row weights, where some pairs may be wrong.

    Attributes:
      inner: the family to fit.
      loss: ``"tukey"`` drops pairs that the others contradict, ``"huber"`` and ``"l1"``
        weaken them; see `solve_robust`.

    Notes:
      Costs as much again as the fit for each of up to 75 rounds, and holds the rows in
      memory. It needs several times more anchors than dimensions, or each pair confirms
      itself.
    """

    name: ClassVar[str] = "robust"
    needs: ClassVar[Needs] = "rows"

    inner: Family = Orthogonal()
    loss: Loss = "tukey"

    def __post_init__(self):
        check_option(
            "Robust",
            "loss",
            self.loss,
            LOSSES,
            remedy="use the inner family alone where all pairs are right",
        )
        if not isinstance(self.inner, Family) or isinstance(self.inner, Robust):
            raise ArgumentError(
                "Robust(inner=...)",
                "another family, such as Orthogonal()",
                self.inner,
                "pass one of `ja.families`",
            )

    @property
    def simplicity(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the inner family."""
        return self.inner.simplicity

    @property
    def default_scale(self) -> Scale:
        """That of the inner family."""
        return self.inner.default_scale

    @property
    def may_be_partial(self) -> bool:
        """As of the inner family."""
        return self.inner.may_be_partial

    @property
    def keeping_all(self) -> "Robust":
        """The inner family that keeps all directions, as robust."""
        return dataclasses.replace(self, inner=self.inner.keeping_all)

    @property
    def holds_out(self) -> bool:
        """As of the inner family."""
        return self.inner.holds_out

    def reweight(
        self, anchors: Anchors, fit_on: Mapping[Modality, float]
    ) -> tuple[Anchors, dict[str, Any]]:
        """Multiply the weights of the modalities that are fitted on by robust ones.

        Returns:
          The anchors with new weights, and notes for the map's card.
        """
        proper = isinstance(self.inner, Orthogonal) and self.inner.proper
        weights, notes = {}, {}
        for name in fit_on:
            rows = anchors.rows[name]
            given = np.ones(len(rows)) if rows.weights is None else rows.weights
            given = as_float(given)
            found = solve_robust(
                as_float(rows.source),
                as_float(rows.target),
                weights=given,
                loss=self.loss,
                # By spreads ("energy") wrong pairs would set the scale, clean rows
                # would all miss, and a huber or l1 fit would never leave that.
                scale="least_squares",
                proper=proper,
            )
            found.check(allow=[Status.RANK_DEFICIENT, Status.NOT_CONVERGED])
            weights[name] = np.asarray(found.weights)
            low = weights[name] < REJECTED * given
            notes[name] = {
                "share_below_0.1": float(np.mean(low[given > 0])),
                "status": Status(int(found.status)).name,
            }
        return anchors.with_weights(weights), {"robust": notes}

    def check_widths(self, call: str, d_source: int, d_target: int) -> None:
        """Raise if the inner family has no map between these widths."""
        self.inner.check_widths(call, d_source, d_target)

    def describe(self) -> str:
        """Say in a few words what the map is."""
        return f"{self.inner.describe()}, robust ({self.loss})"

    def to_json(self) -> dict[str, Any]:
        """Give the family as JSON values, for a map's card."""
        return {"name": self.name, "inner": self.inner.to_json(), "loss": self.loss}
