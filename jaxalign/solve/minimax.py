# SPDX-License-Identifier: Apache-2.0
r"""Odd polynomials that drive singular values to one as fast as their degree allows.

The steps before Newton-Schulz converges by itself. For singular values in
:math:`[l, u]` the best odd quintic is the one whose error
:math:`\max |1 - p(x)|` is least; applied, it leaves an interval about 1, for which the
next one is best, and the composition of such steps is the best of its form.

Reference: Amsel, Persson, Musco, Gower, "The Polar Express: optimal matrix sign methods
and their application to the Muon algorithm", 2025, arXiv 2505.16932.
"""

import functools

import numpy as np

_CUSHION = 0.2


@functools.cache
def minimax_schedule(
    lower: float, *, reached: float = 0.3
) -> tuple[tuple[float, float, float], ...]:
    r"""Make the quintics that carry :math:`[lower, 1]` into :math:`1 \pm reached`.

    Args:
      lower: least singular value to be carried, in (0, 1).
      reached: error that is left to polishing, in (0, 1).

    Returns:
      Coefficients ``(a, b, c)`` of :math:`a x + b x^3 + c x^5`, a step each.

    >>> len(minimax_schedule(1e-3))
    6
    """
    steps = []
    low, high = lower, 1.0
    while 1.0 - low > reached:
        # The best quintic for a tiny lower end takes some large values nearly to zero,
        # where they drown in rounding; a raised end costs no speed worth naming.
        (a, b, c), error = best_quintic(max(low, _CUSHION * high), high)
        steps.append((a, b, c))
        low, high = min(a * low + b * low**3 + c * low**5, 1.0 - error), 1.0 + error
    return tuple(steps)


def best_quintic(low: float, high: float) -> tuple[tuple[float, float, float], float]:
    """Find the odd quintic nearest to 1 on an interval, and its error, by Remez.

    The error alternates four times: at both ends and at the two extrema between.

    >>> coefficients, error = best_quintic(0.9, 1.1)
    >>> error < 2e-3
    True
    """
    inner, outer = 0.75 * low + 0.25 * high, 0.25 * low + 0.75 * high
    a = b = c = error = 0.0
    for _ in range(100):
        points = np.array([low, inner, outer, high])
        signs = np.array([1.0, -1.0, 1.0, -1.0])
        system = np.stack([points, points**3, points**5, signs], axis=1)
        a, b, c, error = (float(x) for x in np.linalg.solve(system, np.ones(4)))
        # Extrema: 0 = a + 3 b z + 5 c z^2 with z = x^2.
        root = np.sqrt(9.0 * b * b - 20.0 * a * c)
        moved = np.sqrt((-3.0 * b + np.array([-root, root])) / (10.0 * c))
        settled = np.max(np.abs(moved - [inner, outer])) < 1e-13 * high
        inner, outer = (float(x) for x in moved)
        if settled:
            break
    return (a, b, c), abs(error)
