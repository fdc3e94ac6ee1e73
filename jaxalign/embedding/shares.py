# SPDX-License-Identifier: Apache-2.0
"""Sharing examples among processes, as ranges of example numbers."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Share:
    """Share of one of a run's processes: number `index` of `count`."""

    index: int = 0
    count: int = 1

    def examples(self, examples: int, part_examples: int) -> range:
        """Return the examples of this process's parts, which follow each other.

        >>> [Share(index, 2).examples(70, 20) for index in range(2)]
        [range(0, 40), range(40, 70)]
        """
        parts = -(-examples // part_examples)
        first, stop = (
            min(number * parts // self.count * part_examples, examples)
            for number in (self.index, self.index + 1)
        )
        return range(first, stop)


ALONE = Share()
"""The one process of a run."""


def merge_ranges(ranges: Sequence[range]) -> list[range]:
    """Return the union of ranges as sorted ranges that do not touch.

    >>> merge_ranges([range(4, 8), range(0, 2), range(1, 4), range(9, 10)])
    [range(0, 8), range(9, 10)]
    """
    merged: list[range] = []
    for part in sorted(ranges, key=lambda part: part.start):
        if merged and part.start <= merged[-1].stop:
            stop = max(merged[-1].stop, part.stop)
            merged[-1] = range(merged[-1].start, stop)
        else:
            merged.append(part)
    return merged
