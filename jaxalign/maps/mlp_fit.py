# SPDX-License-Identifier: Apache-2.0
"""An MLP of a user's anchors, in the parts that an `AlignmentMap` holds."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import Array, Modality
from jaxalign.maps.anchor_moments import Pairs, Weights
from jaxalign.maps.anchor_rows import as_float
from jaxalign.maps.folds import fold_rows
from jaxalign.moments import Moments
from jaxalign.solve.mlp import fit_mlp

# Early stopping looks at one fold of this many.
MLP_FOLDS = 10


def solve_perceptron(
    pairs: Pairs,
    moments: dict[Modality, Moments],
    *,
    weights: Weights,
    modality_weights: dict[Modality, float],
    groups: dict[Modality, np.ndarray],
    seed: int,
) -> tuple[Array, dict[str, Array], dict[str, Any]]:
    """Return the matrix, what is added to it, and what there is to note.

    Args:
      pairs: the modalities to fit on, each about its own means.
      moments: at least of these.
      weights: of rows.
      modality_weights: of the modalities in `pairs`.
      groups: early stopping holds whole groups out.
      seed: of the fit.

    Raises:
      ValueError: with fewer than ten anchors, or a single group.
    """
    sizes = {name: source.shape[0] for name, (source, _) in pairs.items()}
    folds = fold_rows(sizes, groups, MLP_FOLDS)
    held_out = np.concatenate([folds[name] == 0 for name in pairs])
    if len(held_out) < MLP_FOLDS or held_out.all():
        raise ValueError(
            f"`fit_map(kind='mlp')`: expected at least {MLP_FOLDS} anchors and 2 "
            f"groups, to stop early by those held out, got {len(held_out)} anchors; "
            "use kind='orthogonal'."
        )
    sides = [
        np.concatenate(
            [
                as_float(pairs[name][side]) - np.asarray(getattr(moments[name], mean))
                for name in pairs
            ]
        )
        for side, mean in enumerate(("source_mean", "target_mean"))
    ]
    of_rows = None
    if weights or len(set(modality_weights.values())) > 1:
        of_rows = np.concatenate(
            [
                modality_weights[name]
                * as_float(weights.get(name, np.ones(sizes[name])))
                for name in pairs
            ]
        )
    solution = fit_mlp(*sides, seed=seed, held_out=held_out, weights=of_rows).check()
    parts = solution.unscaled()
    matrix = parts.pop("skip")
    notes = {
        "best_step": int(solution.best_step),
        "held_out_error": float(jnp.min(solution.held_out_errors)),
        "seed": seed,
    }
    return matrix, parts, notes
