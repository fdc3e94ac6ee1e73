# SPDX-License-Identifier: Apache-2.0
"""How far to trust the map of some anchors: things in blocks, blocks resampled.

Pictures of one thing, in whatever rendering, stay in one block, since what is resampled
must be independent.
"""

import dataclasses
import functools

import jax
import numpy as np

from jaxalign.anchors.anchors import Anchors
from jaxalign.array_types import Modality
from jaxalign.maps.options import weights_of
from jaxalign.moments import Moments, reduce_groups
from jaxalign.moments.merging import merge_moments
from jaxalign.trust.assess import assess_map
from jaxalign.trust.blocks import block_of_rows
from jaxalign.trust.result import Trust

BLOCKS = 64


def assess_anchors(
    anchors: Anchors,
    *,
    fit_on: Modality | None = None,
    replicates: int = 200,
    blocks: int = BLOCKS,
) -> Trust:
    """Tell how far to trust the orthogonal map fitted on some anchors.

    Args:
      anchors: the paired rows. Things are dealt to blocks by a hash of their ids;
        without ids row i of every modality is a thing of its own.
      fit_on: the modality that the map is fitted on, or "all", as of `fit_map`.
      replicates: see `assess_map`.
      blocks: how many.

    Returns:
      What the anchors tell, by the scale "energy". Where there are too few things to
      resample its status is FEW_BLOCKS, and `describe_trust` says so.

    Raises:
      ValueError: see `assess_map`.

    Notes:
      ``replicates`` + 128 solves, O(d^3) each.
    """
    _, weights = weights_of("assess_anchors", anchors.modalities, fit_on)
    own = anchors.take({n: np.arange(len(anchors.rows[n])) for n in weights})
    ids = {
        name: np.arange(len(rows)) if rows.ids is None else rows.ids
        for name, rows in own.rows.items()
    }
    group = {name: block_of_rows(of, blocks=blocks) for name, of in ids.items()}
    wide = anchors.widths[0] > anchors.widths[1]
    moments = own.moments(grams=wide, group=group, groups=blocks)
    if len(moments) > 1:
        # Each modality about its own mean: the gap between them is no signal.
        moments = {name: _about_mean(part) for name, part in moments.items()}
    pooled = functools.reduce(merge_moments, moments.values())
    return assess_map(pooled, replicates=replicates, scale="energy")


@jax.jit
def _about_mean(moments: Moments) -> Moments:
    """Move the groups so that the mean of all their rows is 0."""
    whole = reduce_groups(moments)
    return dataclasses.replace(
        moments,
        source_mean=moments.source_mean - whole.source_mean[None, :],
        target_mean=moments.target_mean - whole.target_mean[None, :],
    )
