# SPDX-License-Identifier: Apache-2.0
"""Regions of rows that lie near each other, to be held out together.

Rows that resemble each other on both sides find each other's partners without any map:
frames of a film in order, near-copies, chunks of one text. Where such rows stand on
both sides of a fold, a search of held-out rows looks well although the models share
nothing. Held out with all that lies near it, a row is found only by a map that holds
elsewhere.
"""

import numpy as np
from jaxtyping import Float, Int

from jaxalign.anchors.anchors import Anchors
from jaxalign.array_types import Modality

MOST_REGIONS, FEWEST_REGIONS = 40, 5
# Regions of five rows where rows are few, then ten regions, then regions of ten rows.
_FEW_EACH, _SEVERAL, _ROWS_EACH = 5, 10, 10
_ROUNDS, _SEED = 8, 0


def with_regions(anchors: Anchors, modality: Modality) -> Anchors:
    """Make whole regions of the source rows of a modality the groups that fold.

    Args:
      anchors: as `number_things` gives them.
      modality: whose rows lie in regions. A group lies where its first row does, and a
        group without rows of this modality is a region of its own.

    Returns:
      The same anchors with other groups.
    """
    pairs = anchors.rows[modality]
    groups = pairs.known("groups")
    names, first = np.unique(groups, return_index=True)
    few = min(len(names) // _FEW_EACH, _SEVERAL)
    count = max(few, len(names) // _ROWS_EACH)
    count = int(np.clip(count, FEWEST_REGIONS, MOST_REGIONS))
    found = cluster_rows(np.asarray(pairs.source, np.float32), count)
    largest = max(int(one.known("groups").max()) for one in anchors.rows.values())
    region_of_group = count + np.arange(largest + 1)
    region_of_group[names] = found[first]
    return anchors.with_labels(
        ids={name: one.known("ids") for name, one in anchors.rows.items()},
        groups={
            name: region_of_group[one.known("groups")]
            for name, one in anchors.rows.items()
        },
    )


def cluster_rows(rows: Float[np.ndarray, "n d"], count: int) -> Int[np.ndarray, " n"]:
    """Cluster rows by a few rounds of Lloyd's algorithm from seeded rows.

    Args:
      rows: ``(n, d)``, n at least `count`.
      count: clusters; some may end without rows.

    Returns:
      ``(n,)`` numbers below `count`. Cost O(n count d) a round.

    References:
      Lloyd, "Least squares quantization in PCM", 1982.
    """
    rows = rows - rows.mean(axis=0)
    start = np.random.default_rng(_SEED).permutation(len(rows))[:count]
    centres = rows[start]
    nearest = np.zeros(len(rows), np.int64)
    for _ in range(_ROUNDS):
        # (n, d) @ (d, count); the rows' own norms decide nothing.
        distances = np.sum(centres**2, axis=1) - 2.0 * rows @ centres.T
        nearest = np.argmin(distances, axis=1)
        # (count, n) @ (n, d)
        members = (nearest[None, :] == np.arange(count)[:, None]).astype(rows.dtype)
        sizes, filled = members.sum(axis=1, keepdims=True), members.any(axis=1)
        centres[filled] = (members @ rows)[filled] / sizes[filled]
    return nearest
