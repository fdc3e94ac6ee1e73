# SPDX-License-Identifier: Apache-2.0
"""Scores of held-out queries with the rows that they search, and who wins."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

# Scores that differ by less are equal, up to rounding.
_TIE = 8 * float(np.finfo(np.float32).eps)


class FoldScores(NamedTuple):
    """Scores of the queries of one fold with its index rows.

    Attributes:
      scores: ``(n, m)``.
      right: ``(n, m)``, whether the row answers the query.
      groups: ``(n,)`` of the queries.
    """

    scores: Float[np.ndarray, "n m"]
    right: Bool[np.ndarray, "n m"]
    groups: Int[np.ndarray, " n"]

    def hits(self) -> Bool[np.ndarray, " n"]:
        """Whether the best right row beats all rivals; ties and NaN do not."""
        best = np.max(self.scores, axis=1, initial=-np.inf, where=self.right)
        other = np.max(self.scores, axis=1, initial=-np.inf, where=~self.right)
        return best > other + _TIE * np.abs(other)
