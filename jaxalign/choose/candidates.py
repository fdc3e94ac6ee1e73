# SPDX-License-Identifier: Apache-2.0
"""What a map is for, the candidates that this allows, and how they did, in words.

The purpose decides which families are tried, not held-out anchors alone: those are of
the fitted modality, and always prefer what fits it best. Ties go to what is listed
first.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from jaxalign.families.family import Family
from jaxalign.families.half import Half
from jaxalign.families.likelihood_ratio import LikelihoodRatio
from jaxalign.families.orthogonal import Orthogonal
from jaxalign.families.scorer import ScorerFamily
from jaxalign.families.whitened import Whitened
from jaxalign.heldout.candidate import Candidate as Candidate
from jaxalign.heldout.jobs import Purpose
from jaxalign.search.use import Use

FAMILIES: dict[str, tuple[Family | ScorerFamily, ...]] = {
    "search": (LikelihoodRatio(), Orthogonal()),
    # Whoever stores carried rows searches them by distance.
    "rewrite": (Orthogonal(), Whitened()),
    "cross": (LikelihoodRatio(), Half(), Orthogonal(), Whitened()),
    "zero_shot": (LikelihoodRatio(), Half(), Orthogonal(), Whitened()),
}
"""What is tried for each purpose, the preferred first."""

USES: tuple[Use, ...] = (Use(), Use.SCORER)
"""How a map of rows and a scorer are used."""


@dataclasses.dataclass(frozen=True)
class CandidateScore:
    """How one candidate did on held-out anchors.

    Attributes:
      candidate: the candidate.
      score: mean log-softmax of the right rows, over groups, then over jobs.
      top1: share of queries that find a right row first among the rows of their fold,
        by job.
      behind: how far behind the best candidate.
      standard_error: of `behind`, over groups.
    """

    candidate: Candidate
    score: float
    top1: dict[str, float]
    behind: float
    standard_error: float


class HeldOutTop1(NamedTuple):
    """What to expect of one job, from rows that the choice has not seen.

    Attributes:
      top1: share of queries that find a right row first.
      queries: number of queries.
      chance: share that would find one by chance.
    """

    top1: float
    queries: int
    chance: float


def explain(
    purpose: Purpose,
    chosen: Candidate,
    table: Sequence[CandidateScore],
    heldout: dict[str, HeldOutTop1],
) -> str:
    """Say in one sentence what was chosen, against what, and what to expect."""
    row = next(row for row in table if row.candidate == chosen)
    others = [other for other in table if other.candidate != chosen]
    why = "the only candidate"
    if others and table[0].candidate == chosen:
        why = (
            f"the best of {len(table)} on held-out anchors (log-likelihood "
            f"{row.score:.3f} a query, against {others[0].score:.3f} for "
            f"{others[0].candidate.describe()})"
        )
    elif others:
        why = (
            "preferred for this purpose and within one standard error of the best of "
            f"{len(table)} on held-out anchors (log-likelihood {row.score:.3f} a "
            f"query, against {table[0].score:.3f} for {table[0].candidate.describe()})"
        )
    expect = ""
    if heldout:
        parts = [
            f"{100 * one.top1:.1f} % ({job}; by chance {100 * one.chance:.1f} %)"
            for job, one in heldout.items()
        ]
        expect = (
            "; anchors that a choice made in this way had not seen find a right row "
            "first in " + ", ".join(parts)
        )
    return f"Chosen for {purpose!r}: {chosen.describe()}, {why}{expect}."
