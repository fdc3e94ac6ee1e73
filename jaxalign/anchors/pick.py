# SPDX-License-Identifier: Apache-2.0
r"""Which rows to embed anew when there are no pairs yet: those that stand for the rest.

Picked are the rows that cover the store best: each row of it is worth its cosine with
the nearest picked one, about the mean, and the sum of that is what is maximised
(facility location), greedily. Measured on rows of real models this beats a random draw,
or is as good; farthest-point and D-optimal picks do worse than random, since they go
for outliers, which tell little of the map.

References: Mirzasoleiman, Badanidiyuru, Karbasi, Vondrak, Krause, "Lazier than lazy
greedy", 2015.
"""

import math

import numpy as np
from jaxtyping import Float, Int

from jaxalign.errors import ArgumentError, check_count

# Rows that may be picked, at least, and rows that stand for the store, at most.
POOL, COVERED = 8192, 4096
# Entries of the matrix of cosines between the two, at most.
_MOST_COSINES = 1 << 27
# Rows looked at in a step: so many that the best of all is missed rarely.
_LOOKS = math.log(100.0)


def draw_pool(rows: int, n: int, *, seed: int = 0) -> Int[np.ndarray, " p"]:
    """Draw the numbers of rows that a pick is made from, sorted.

    Args:
      rows: in the store.
      n: rows to pick.
      seed: other seeds draw others.

    Returns:
      All rows of a small store, else four times `n` or 8,192 of them.
    """
    size = min(rows, max(POOL, 4 * n))
    if size == rows:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))


def pick_rows(
    rows: Float[np.ndarray, "p d"], n: int, *, seed: int = 0
) -> Int[np.ndarray, " n"]:
    """Pick the rows that cover all others best, the most useful first.

    Args:
      rows: ``(p, d)``, floating; of a large store a sample, see `draw_pool`. Rows that
        are not finite, or zero, and all but the first of equal rows are not picked.
      n: how many.
      seed: breaks ties; with the same rows and seed the pick is the same.

    Returns:
      Row numbers, in the order in which they were picked: the first k are a pick of k.

    Raises:
      ValueError: if fewer than `n` rows can be picked.

    Notes:
      Cost O(p c (d + 5)) with c rows that stand for all, 4,096 at most.

    >>> rows = np.repeat(np.eye(3), 5, axis=0)
    >>> sorted((pick_rows(rows, 3) // 5).tolist())
    [0, 1, 2]
    """
    n = check_count("pick_rows", "n", n)
    wide = np.asarray(rows).astype(np.float32)
    good = np.flatnonzero(np.isfinite(wide).all(axis=1) & wide.any(axis=1))
    _, first = np.unique(wide[good], axis=0, return_index=True)
    able = good[np.sort(first)]
    if len(able) < n:
        raise ArgumentError(
            f"pick_rows(n={n})",
            f"at most {len(able)}, the rows that are finite, not zero and different",
            remedy="pick fewer",
        )
    rng = np.random.default_rng(seed)
    units = _centred_units(wide[able])
    covered = min(COVERED, len(able), max(1, _MOST_COSINES // len(able)))
    stands = np.sort(rng.choice(len(able), covered, replace=False))
    cosines = units @ units[stands].T  # (able, covered)
    best = np.full(covered, -1.0, np.float32)
    left = rng.permutation(len(able))
    picked = np.empty(n, np.int64)
    looks = math.ceil(_LOOKS * len(able) / n)
    for place in range(n):
        looked = left[:looks]
        if looks < len(left):
            looked = left[rng.choice(len(left), looks, replace=False)]
        gains = np.maximum(cosines[looked], best).sum(axis=1, dtype=np.float64)
        chosen = looked[int(gains.argmax())]
        picked[place] = chosen
        best = np.maximum(best, cosines[chosen])
        left = left[left != chosen]
    return able[picked]


def _centred_units(rows: np.ndarray) -> np.ndarray:
    """Unit rows about their mean; a row at the mean stays 0."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    centred = units - units.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.maximum(norms, np.finfo(np.float32).tiny)
