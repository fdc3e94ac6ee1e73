# SPDX-License-Identifier: Apache-2.0
"""Tolerances as multiples of machine epsilon, each with its reason."""

import numpy as np


def eps(dtype) -> float:
    return float(np.finfo(np.dtype(dtype)).eps)


# Polar factor by SVD, planted rotation, condition number at most 10: the largest error
# seen is 5 eps for orthogonality and 1.6 eps for recovery up to d = 512; 20 leaves
# room.
POLAR = 20.0

# Centred sums of up to 400 rows, relative to the energies: a sum of n products errs by
# sqrt(n) / 2 eps or so, and the mean's own rounding enters squared. 4 eps seen.
SUMS = 20.0

# Procrustes from rows of condition number at most 10: the sums' error, times the
# sensitivity 2 / (s_n + s_(n-1)) of Q, which is at most 100 / s_1 since singular values
# of C go with the square of the rows'.
PROCRUSTES = 400.0

# Rows carried over, back, or over twice: a few matrix products of rows of norm about
# one, each entry a sum of d <= 64 terms.
ROWS = 20.0

# Linear maps square the condition number: Gram (100) against sums' error.
LINEAR = 2000.0

# Two polar factors of one matrix: rounding of each, 10 eps seen for Newton-Schulz at
# condition 10, times the sensitivity to it, which grows with the condition.


def polar_difference(dtype, condition) -> float:
    return POLAR * eps(dtype) * max(1.0, condition / 10.0)


# A map found by descent, of which the gradient is at most eps^(3/4) of its terms: the
# error of the map is that times the spread of the curvature, 100 in the cases.
DESCENT = 100.0


def descent(dtype) -> float:
    return DESCENT * eps(dtype) ** 0.75


# Points after a retraction, and retractions against SciPy's: factorisations of well
# conditioned matrices, 12 eps seen up to d = 768.
RETRACTION = 20.0


def retraction(dtype, method, size=0.0, *, iterations=2) -> float:
    """Bound the distance from the manifold after a step of spectral norm `size`."""
    bound = RETRACTION * eps(dtype)
    if method == "cayley_iterative":
        # What is left of the series after so many rounds, and as much transposed.
        bound += 4.0 * (0.5 * size) ** (iterations + 2) * (1.0 + size)
    return bound


# Distances: angles by singular values, right to their rounding, 12 eps seen at a
# distance of 6.7.
DISTANCE = 40.0

# A path of 1000 steps: each is off by its own rounding alone where the retraction takes
# off the drift (polar, QR), or by the sum of them, of one sign at worst.
PATH = 1000.0
