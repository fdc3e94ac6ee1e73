# SPDX-License-Identifier: Apache-2.0
"""The examples of the two-process test: halves whose texts are of other lengths."""

import numpy as np

from tests import tiny_encoders

COUNT = 12


class Examples:
    """Pictures; the first half has short texts, the other long ones."""

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        text = tiny_encoders.CORPUS[index]
        return {
            "image": rng.integers(0, 256, (20, 30, 3), dtype=np.uint8),
            "text": text if index < COUNT // 2 else f"{text} " * 6,
            "id": str(index),
            "label": index,
        }
