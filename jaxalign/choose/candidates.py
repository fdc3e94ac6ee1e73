# SPDX-License-Identifier: Apache-2.0
"""Ways to fit a map and to use it: what is tried, how they compare, in words."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxalign.array_types import Modality
from jaxalign.choose.held_out import HeldOut, Job
from jaxalign.families import Orthogonal, Ridge
from jaxalign.families.family import Family
from jaxalign.search.use import Use
from jaxalign.solve.scale import Scale

FAMILIES: tuple[Family, ...] = (Orthogonal(keep="all"), Orthogonal(), Ridge())
"""What is tried by default."""

USES: tuple[Use, ...] = tuple(
    Use(centre, divide, offsets)  # pyright: ignore[reportArgumentType]
    for centre, divide in (
        ("none", "whole"),
        ("source", "whole"),
        ("both", "whole"),
        ("both", "identified"),
    )
    for offsets in (0, 5)
)
"""How maps are used by default."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to fit a map and to use it.

    Attributes:
      family: of the map.
      fit_on: the modality it is fitted on, or "all".
      scale: of the map; only rows that get the target mean feel it.
      use: in searches.
    """

    family: Family
    fit_on: Modality
    scale: Scale
    use: Use

    def describe(self) -> str:
        """Say in a few words what is done, fit first.

        >>> use = Use(divide="whole", offsets=0)
        >>> Candidate(Ridge(), "text", "none", use).describe()
        'ridge fitted on text, both sides centred'
        """
        scale = f", scale {self.scale}" if self.use.centre == "none" else ""
        use = self.use.describe()
        return f"{self.family.describe()} fitted on {self.fit_on}{scale}, {use}"

    def to_json(self) -> dict[str, Any]:
        """Give the candidate as JSON values, for a map's card."""
        return {
            "family": self.family.to_json(),
            "fit_on": self.fit_on,
            "scale": self.scale,
            "use": self.use.to_json(),
        }


@dataclasses.dataclass(frozen=True)
class CandidateScore:
    """How one candidate did on held-out anchors.

    Attributes:
      candidate: the candidate.
      score: pooled top-1 (`pooled_top1`), the mean over jobs.
      interval: 95 % interval of it, over groups.
      top1: exact top-1 among the rows of a fold, by job.
      behind: how far behind the best candidate.
      standard_error: of `behind`, over groups.
    """

    candidate: Candidate
    score: float
    interval: tuple[float, float]
    top1: dict[str, float]
    behind: float
    standard_error: float


def tabulate(
    found: dict[Candidate, HeldOut], jobs: Sequence[Job]
) -> tuple[CandidateScore, ...]:
    """Order candidates by score, each beside the best."""
    best = max(found.values(), key=lambda held: held.score)
    rows = []
    for candidate, held in found.items():
        spread = 1.96 * held.standard_error()
        rows.append(
            CandidateScore(
                candidate=candidate,
                score=held.score,
                interval=(max(0.0, held.score - spread), min(1.0, held.score + spread)),
                top1={
                    job.describe(): float(hits.mean())
                    for job, hits in zip(jobs, held.hits, strict=True)
                },
                behind=best.score - held.score,
                standard_error=best.standard_error(held),
            )
        )
    return tuple(sorted(rows, key=lambda row: -row.score))


def cost(one: Candidate, order: Sequence[Modality]) -> tuple:
    """What is given up for a candidate, the dearest first."""
    return (
        one.family.simplicity,
        one.use.offsets > 0,
        one.use.centre == "both",
        list(order).index(one.fit_on),
        one.family.may_be_partial,
        one.use.centre != "none",
        one.scale == "none",
        one.use.divide == "identified",
    )


def explain(chosen: Candidate, table: Sequence[CandidateScore], size: int) -> str:
    """Say in one sentence what was chosen, and against what."""
    row = next(row for row in table if row.candidate == chosen)
    exact = ", ".join(f"{job} {_percent(top1)}" for job, top1 in row.top1.items())
    why = f"the best of {len(table)} candidates"
    if table[0].candidate != chosen:
        why = (
            f"the simplest of {len(table)} candidates within one standard error of the "
            f"best ({table[0].candidate.describe()}: {_percent(table[0].score)})"
        )
    plain = Candidate(Orthogonal(keep="all"), chosen.fit_on, "energy", Use.PAPER)
    beside = "".join(
        f", against {_percent(other.score)} for the whole rotation used plainly"
        for other in table
        if other.candidate == plain != chosen
    )
    return (
        f"Chosen: {chosen.describe()}; on held-out anchors it ranks the right row "
        f"first among {size:,} in {_percent(row.score)} of searches{beside} (exact "
        f"top-1 among those held out: {exact}), and is {why}."
    )


def _percent(share: float) -> str:
    """Write a share in percent."""
    return f"{100 * share:.1f} %"
