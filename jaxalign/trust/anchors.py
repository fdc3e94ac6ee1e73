# SPDX-License-Identifier: Apache-2.0
"""How far to trust the map of some anchors: things in blocks, blocks resampled.

Stands between the anchors of a report and `assess_map`: pictures of one thing, in
whatever rendering, stay in one block, since what is resampled must be independent.
"""

import numpy as np

from jaxalign.array_types import Modality
from jaxalign.evaluate.methods import Anchors
from jaxalign.maps.anchor_moments import moments_of
from jaxalign.trust.assess import assess_map
from jaxalign.trust.blocks import block_of_rows
from jaxalign.trust.result import Trust

BLOCKS = 64
_BATCH = 4096


def assess_anchors(
    anchors: Anchors,
    *,
    fit_on: Modality = "image",
    replicates: int = 200,
    blocks: int = BLOCKS,
) -> Trust:
    """Tell how far to trust the orthogonal map fitted on some anchors.

    Args:
      anchors: the paired rows.
      fit_on: the modality that the map is fitted on, or "all".
      replicates: see `assess_map`.
      blocks: that things are dealt to by a hash of their ids; without ids each row is
        a thing of its own.

    Returns:
      What the anchors tell, by the scale "energy". Where there are too few things to
      resample its status is FEW_BLOCKS, and `describe_trust` says so.

    Raises:
      ValueError: see `assess_map`.

    Notes:
      ``replicates`` + 128 solves, O(d^3) each.
    """
    source, target, _ = anchors.of(fit_on)
    given = {"image": anchors.image_ids, "text": anchors.text_ids}
    parts = []
    for name, rows in anchors.labels.items():
        if fit_on in (name, "all"):
            own = given[name]
            # Without ids row i of every modality may show one thing.
            parts.append(np.arange(len(rows)) if own is None else np.asarray(own))
    ids = np.concatenate(parts)
    moments = moments_of(
        source,
        target,
        grams=source.shape[1] > target.shape[1],
        batch_size=_BATCH,
        group=block_of_rows(ids, blocks=blocks),
        groups=blocks,
    )
    return assess_map(moments, replicates=replicates, scale="energy")
