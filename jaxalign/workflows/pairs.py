# SPDX-License-Identifier: Apache-2.0
"""Pairs from files: their moments and a sample, in one pass over the rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxalign.anchors import PairCounts as PairCounts
from jaxalign.anchors import paired_anchors, row_pairs
from jaxalign.anchors.from_rows import shared_modalities
from jaxalign.maps.kept_pairs import (
    SAMPLE,
    KeptPairs,
    Sample,
    draw_sample,
    label_rows,
)
from jaxalign.moments import accumulate_moments
from jaxalign.workflows.progress import progress
from jaxalign.workflows.sides import Sides

BATCH_SIZE = 8192


def read_pairs(
    sides: Sequence[Sides],
    *,
    normalize: bool,
    all_rows: bool = False,
    sample_only: bool = False,
    call: str,
) -> tuple[KeptPairs, dict[str, PairCounts]]:
    """Read all pairs once: their moments, and a sample, or all of few.

    Args:
      sides: what pairs.
      normalize: divide rows by their norms.
      all_rows: keep every pair as it is, for families that need rows.
      sample_only: leave the moments out, and read no more than the sample.
      call: named in errors.

    Returns:
      The pairs, and what became of the rows by modality.
    """
    moments, samples, counts = {}, {}, {}
    spaces: dict[str, str | None] = {"source": None, "target": None}
    for one in sides:
        options: dict[str, Any] = {"matched": one.matched, "normalize": normalize}
        drawn = draw_sample(one.matched.count, None if all_rows else SAMPLE)
        found = paired_anchors(
            one.source, one.target, numbers=drawn, **options, call=call
        )
        for name, (source, target) in found.pairs.items():
            numbers = found.numbers[name]
            ids = one.ids(numbers)
            samples[name] = Sample(
                np.asarray(source, np.float32),
                np.asarray(target, np.float32),
                label_rows(numbers, one.origin()) if ids is None else label_rows(ids),
            )
            counts[name] = found.counts[name]
        for side in spaces:
            spaces[side] = spaces[side] or getattr(one, side).space
        if drawn is None or sample_only:
            continue
        for name in shared_modalities(call, one.source, one.target):
            batches = row_pairs(
                one.source,
                one.target,
                name,
                **options,
                batch_size=BATCH_SIZE,
                call=call,
            )
            title = f"Reading {name} pairs"
            with progress(title, one.matched.count, "pairs") as report:
                moments[name] = accumulate_moments(batches, grams=True, report=report)
            counts[name] = batches.counts
    kept = KeptPairs(
        moments,
        samples,
        normalize,
        tuple(one.origin() for one in sides),
        spaces["source"],
        spaces["target"],
    )
    if sample_only:
        return kept, counts
    few = kept.anchors(call).moments(grams=True)
    moments |= {name: of for name, of in few.items() if name not in moments}
    return kept, counts
