# SPDX-License-Identifier: Apache-2.0
"""One picture of each thing an epoch, so that no batch shows one thing twice.

A second picture of a thing in a batch would be a false negative of the contrastive
losses: its caption fits both pictures.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

from jaxalign.data.examples import Source


class GroupedSource:
    """Examples grouped by the value of one key, held decoded in memory.

    Its element `i` is `{"choices": [...]}`, all examples of the i-th group; follow it
    with `DrawOne`. Meant for small training sets.
    """

    def __init__(self, source: Source, *, key: str = "thing"):
        groups: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
        for index in range(len(source)):
            example = source[index]
            groups[example[key]].append(example)
        self._groups: Sequence[list[dict[str, Any]]] = list(groups.values())

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        return {"choices": self._groups[index]}


class DrawOne(grain.transforms.RandomMap):
    """Replace `choices` by one of them, drawn at random."""

    def random_map(
        self, element: dict[str, Any], rng: np.random.Generator
    ) -> dict[str, Any]:
        """Draw one example; what stands beside `choices` (the mask) is kept."""
        rest = {key: value for key, value in element.items() if key != "choices"}
        return {**element["choices"][rng.integers(len(element["choices"]))], **rest}
