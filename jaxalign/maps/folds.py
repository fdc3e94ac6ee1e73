# SPDX-License-Identifier: Apache-2.0
"""Folds of anchors that keep whole groups together, the same for all modalities.

A fold of single rows would hold a picture out while another rendering of it, or its
caption, is fitted on: what is chosen on such folds comes out too weak for new things.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from jaxalign.array_types import ArrayLike, Modality


def fold_rows(
    sizes: Mapping[Modality, int],
    groups: Mapping[Modality, ArrayLike],
    count: int,
) -> dict[Modality, Int[np.ndarray, " n"]]:
    """Number the fold of each row of each modality.

    Args:
      sizes: rows of each modality.
      groups: ``(n,)`` labels by modality; rows of one label share a fold, in all
        modalities. A modality without groups is split by row, and row i of all such
        modalities falls in one fold: it may show one thing.
      count: folds wanted; fewer groups make fewer folds.

    Returns:
      ``(n,)`` numbers from 0 by modality, from a fixed seed.

    >>> folds = fold_rows({"image": 4}, {"image": np.array([7, 7, 9, 9])}, 5)["image"]
    >>> bool(folds[0] == folds[1] != folds[2] == folds[3])
    True
    """
    labelled = [np.asarray(groups[name]) for name in sizes if name in groups]
    names = np.unique(np.concatenate(labelled)) if labelled else np.zeros(0)
    shuffled = np.random.default_rng(0).permutation(len(names))
    of_label = shuffled % max(1, min(count, len(names)))
    folds = {}
    for name, size in sizes.items():
        if name in groups:
            folds[name] = of_label[np.searchsorted(names, np.asarray(groups[name]))]
        else:
            order = np.random.default_rng(0).permutation(size)
            folds[name] = np.empty(size, np.int64)
            folds[name][order] = np.arange(size) % count
    return folds
