# SPDX-License-Identifier: Apache-2.0
"""Tolerances as multiples of machine epsilon, each with its reason."""

import numpy as np


def eps(dtype) -> float:
    return float(np.finfo(np.dtype(dtype)).eps)


# Polar factor by SVD, planted rotation, condition number at most 10: the largest error
# seen is 5 eps for orthogonality and 1.6 eps for recovery up to d = 512; 20 leaves
# room.
POLAR = 20.0
