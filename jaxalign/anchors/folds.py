# SPDX-License-Identifier: Apache-2.0
"""Folds of anchors that keep whole groups together, the same for all modalities.

A fold of single rows would hold a picture out while another rendering of it, or its
caption, is fitted on: what is chosen on such folds comes out too weak for new things.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from jaxalign.anchors.paired_rows import PairedRows
from jaxalign.array_types import Modality


def fold_rows(
    rows: Mapping[Modality, PairedRows], count: int
) -> dict[Modality, Int[np.ndarray, " n"]]:
    """Number the fold of each row of each modality.

    Args:
      rows: rows of one label share a fold, in all modalities. A modality without
        labels is split by row, and row i of all such modalities falls in one fold: it
        may show one thing.
      count: folds wanted; fewer groups make fewer folds.

    Returns:
      ``(n,)`` numbers from 0 by modality, from a fixed seed.
    """
    labels = {name: one.labels for name, one in rows.items()}
    given = [of_rows for of_rows in labels.values() if of_rows is not None]
    names = np.unique(np.concatenate(given)) if given else np.zeros(0)
    shuffled = np.random.default_rng(0).permutation(len(names))
    of_label = shuffled % max(1, min(count, len(names)))
    folds = {}
    for name, of_rows in labels.items():
        if of_rows is not None:
            folds[name] = of_label[np.searchsorted(names, of_rows)]
        else:
            size = len(rows[name])
            order = np.random.default_rng(0).permutation(size)
            folds[name] = np.empty(size, np.int64)
            folds[name][order] = np.arange(size) % count
    return folds
