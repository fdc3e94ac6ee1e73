# SPDX-License-Identifier: Apache-2.0
"""The maps that a report compares, all fitted on the same anchors.

The default map in a default search, the paper's, and competitors: means alone and
ridge; in full also the ways to use one rotation, least squares and a residual MLP. Each
goes through `protocol.evaluate_map`.
"""

import functools

from jaxalign.anchors.anchors import Anchors
from jaxalign.array_types import Modality
from jaxalign.evaluate.protocol import MapRows
from jaxalign.evaluate.rows import MEAN_ONLY, NO_MAP
from jaxalign.families import PAPER, LeastSquares, MeanOnly, Mlp, Ridge
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.fit import fit_map
from jaxalign.search.use import SearchMap, Use

DEFAULT = "default"
ORTHOGONAL = "orthogonal map"
PAPERS = "paper's map"
CHOSEN = "chosen map"


def fit_baselines(
    anchors: Anchors,
    *,
    fit_on: Modality | None = None,
    seed: int = 0,
    full: bool = False,
) -> tuple[AlignmentMap, dict[str, MapRows | SearchMap | None]]:
    """Fit the default map and all that it is compared with.

    Args:
      anchors: the paired rows. Where a strength is chosen or an MLP stopped, their
        groups are held out whole: folds of single rows would hold a picture out while
        another rendering of it is fitted on.
      fit_on: the modality that every map is fitted on, or "all".
      seed: of the MLP.
      full: also fit what no one should use, to show why.

    Returns:
      The default map, and by name what carries rows or searches: None stands for no
      map. "mean only" is left out where the widths differ.

    Raises:
      ValueError: see `fit_map`.
    """
    fit = functools.partial(fit_map, anchors, fit_on=fit_on)
    default, paper = fit(), fit(PAPER)
    methods: dict[str, MapRows | SearchMap | None] = {NO_MAP: None}
    if default.d_source == default.d_target:
        methods[MEAN_ONLY] = fit(MeanOnly())
    methods[PAPERS] = paper
    methods[DEFAULT] = SearchMap(default, Use(), anchors)
    methods["ridge"] = fit(Ridge())
    if full:
        methods[f"{PAPERS}, uncentred"] = functools.partial(
            paper, subtract_source_mean=False, add_target_mean=False
        )
        methods[ORTHOGONAL] = default
        methods[f"{ORTHOGONAL}, no target mean"] = functools.partial(
            default, add_target_mean=False
        )
        methods["least squares"] = fit(LeastSquares())
        methods["MLP"] = fit(Mlp(seed=seed))
    return default, methods
