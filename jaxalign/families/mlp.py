# SPDX-License-Identifier: Apache-2.0
"""A residual perceptron that starts as the rotation: the paper's flexible baseline."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from jaxalign.anchors.anchors import Anchors
from jaxalign.anchors.folds import fold_rows
from jaxalign.anchors.inspection import as_float
from jaxalign.array_types import Modality
from jaxalign.errors import ArgumentError, check_count
from jaxalign.families.family import Family, Needs, Solved
from jaxalign.moments import Moments
from jaxalign.solve.mlp import fit_mlp

# Early stopping looks at one fold of this many.
FOLDS = 10


@dataclasses.dataclass(frozen=True)
class Mlp(Family):
    """A residual perceptron, see `fit_mlp`; stopped early on held-out anchors.

    Attributes:
      seed: of the initial values and the batches.
    """

    name: ClassVar[str] = "mlp"
    needs: ClassVar[Needs] = "rows"
    simplicity: ClassVar[int] = 5

    seed: int = 0

    def __post_init__(self):
        seed = check_count("Mlp", "seed", self.seed, least=0)
        object.__setattr__(self, "seed", seed)

    @property
    def holds_out(self) -> bool:
        """Training stops by anchors held out."""
        return True

    def fit(
        self,
        anchors: Anchors,
        moments: Mapping[Modality, Moments],
        fit_on: Mapping[Modality, float],
        *,
        batch_size: int,
    ) -> Solved:
        """Fit on centred rows, each modality about its own means.

        Raises:
          ValueError: with fewer than ten anchors, or a single group.
        """
        rows = {name: anchors.rows[name] for name in fit_on}
        folds = fold_rows(rows, FOLDS)
        held_out = np.concatenate([folds[name] == 0 for name in rows])
        if len(held_out) < FOLDS or held_out.all():
            raise ArgumentError(
                "fit_map(family=Mlp())",
                f"at least {FOLDS} anchors and 2 groups, to stop early by those held "
                "out",
                f"{len(held_out)} anchors",
                "use Orthogonal()",
            )
        source, target = (
            np.concatenate(
                [
                    as_float(getattr(rows[name], side))
                    - np.asarray(getattr(moments[name], f"{side}_mean"))
                    for name in rows
                ]
            )
            for side in ("source", "target")
        )
        weights = None
        if len(set(fit_on.values())) > 1 or any(
            part.weights is not None for part in rows.values()
        ):
            weights = np.concatenate(
                [
                    fit_on[name]
                    * as_float(
                        np.ones(len(part)) if part.weights is None else part.weights
                    )
                    for name, part in rows.items()
                ]
            )
        solution = fit_mlp(
            source, target, seed=self.seed, held_out=held_out, weights=weights
        )
        parts = solution.unscaled()
        return Solved(
            matrix=parts.pop("skip"),
            status=solution.status,
            residual=parts,
            notes={
                "best_step": solution.best_step,
                "held_out_error": jnp.min(solution.held_out_errors),
            },
            structure="residual",
        )

    def describe(self) -> str:
        """Say in a few words what the map is."""
        return "MLP"
