# SPDX-License-Identifier: Apache-2.0
"""The maps that a report compares, all fitted on the same anchors.

The orthogonal map in the ways it can be used, and its competitors: means alone, least
squares, ridge (the real one) and a residual MLP. Each becomes a plain callable for
`protocol.evaluate_map`.
"""

import functools

from jaxalign.anchors.anchors import Anchors
from jaxalign.array_types import Modality
from jaxalign.evaluate.protocol import MapRows
from jaxalign.evaluate.rows import MEAN_ONLY, NO_MAP
from jaxalign.families import PAPER, LeastSquares, MeanOnly, Mlp, Ridge
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.fit import fit_map

ORTHOGONAL = "orthogonal map"
PAPERS = "paper's map"
CHOSEN = "chosen map"


def fit_baselines(
    anchors: Anchors, *, fit_on: Modality | None = None, seed: int = 0
) -> tuple[AlignmentMap, dict[str, MapRows | None]]:
    """Fit the orthogonal map and all that it is compared with.

    Args:
      anchors: the paired rows. Where a strength is chosen or an MLP stopped, their
        groups are held out whole: folds of single rows would hold a picture out while
        another rendering of it is fitted on.
      fit_on: the modality that every map is fitted on, or "all".
      seed: of the MLP.

    Returns:
      The orthogonal map, and by name what carries rows: None stands for no map.
      "mean only" is left out where the widths differ.

    Raises:
      ValueError: see `fit_map`.
    """
    fit = functools.partial(fit_map, anchors, fit_on=fit_on)
    orthogonal, paper = fit(), fit(PAPER)
    methods: dict[str, MapRows | None] = {NO_MAP: None}
    if orthogonal.d_source == orthogonal.d_target:
        methods[MEAN_ONLY] = fit(MeanOnly())
    methods[PAPERS] = paper
    methods[f"{PAPERS}, uncentred"] = functools.partial(
        paper, subtract_source_mean=False, add_target_mean=False
    )
    methods[ORTHOGONAL] = orthogonal
    methods[f"{ORTHOGONAL}, no target mean"] = functools.partial(
        orthogonal, add_target_mean=False
    )
    methods["least squares"] = fit(LeastSquares())
    methods["ridge"] = fit(Ridge())
    methods["MLP"] = fit(Mlp(seed=seed))
    return orthogonal, methods
