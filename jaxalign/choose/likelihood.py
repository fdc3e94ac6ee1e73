# SPDX-License-Identifier: Apache-2.0
r"""Mean log-softmax of the right rows: what choices on held-out anchors are made by.

Held-out indexes are small, and in a small index nearly everything finds everything:
top-1 hardly tells candidates apart. How much of a query's softmax its right rows get
still does. Scores of different candidates have different scales, so each has one
temperature, fitted on folds other than the one that it judges.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxalign.heldout.scores import FoldScores

# Sharpness (1 / temperature) in units of the spread of the scores: a coarse search, and
# a finer one about its best. With one right row a query the mean is concave in it.
_COARSE = np.geomspace(0.25, 256.0, 13)
_FINE = np.geomspace(0.6, 1.0 / 0.6, 9)
# Queries of a fold that a temperature is fitted on, at most.
_FEW = 256
# No row costs more, so that one that is far off does not decide alone.
_LEAST = -30.0


def log_shares(fold: FoldScores, sharpness: float) -> Float[np.ndarray, " n"]:
    """Log-softmax of the right rows together, by query."""
    return _shares(fold, np.array([sharpness]))[0]


def fit_sharpness(folds: Sequence[FoldScores]) -> float:
    """Find the sharpness at which the right rows of all queries get most."""
    few = [_thin(fold) for fold in folds]
    spread = np.mean([np.std(fold.scores) for fold in few])
    if not (np.isfinite(spread) and spread > 0):
        return 1.0

    def best(grid):
        found = [_shares(fold, grid / spread) for fold in few]
        return grid[np.argmax(np.mean(np.concatenate(found, axis=1), axis=1))]

    return float(best(best(_COARSE) * _FINE) / spread)


def _thin(fold: FoldScores) -> FoldScores:
    """A few queries, spread over the fold."""
    step = -(-len(fold.scores) // _FEW)
    return FoldScores(*(part[::step] for part in fold))


def _shares(fold: FoldScores, sharpness: np.ndarray) -> Float[np.ndarray, "t n"]:
    """Log-softmax of the right rows at each sharpness."""
    (n, m), dtype = fold.scores.shape, np.float32
    # Few shapes, since each is a program.
    rows, columns = (-(-size // 128) * 128 for size in (n, m))
    scores = np.full((rows, columns), -np.inf, dtype)
    right = np.zeros((rows, columns), bool)
    # About their mean: the softmax does not change, and nothing is lost to rounding.
    scores[:n, :m] = fold.scores - np.mean(fold.scores)
    right[:n, :m] = fold.right
    found = np.asarray(_log_shares(scores, right, sharpness.astype(dtype)))[:, :n]
    return np.maximum(np.nan_to_num(found, nan=_LEAST), _LEAST)


@jax.jit
def _log_shares(scores, right, sharpness):
    """One sharpness after the other."""

    def one(factor):
        logits = factor * scores
        held = jnp.where(right, logits, -jnp.inf)
        total = jax.nn.logsumexp(logits, axis=1)
        return jax.nn.logsumexp(held, axis=1) - total

    return jax.lax.map(one, sharpness)
