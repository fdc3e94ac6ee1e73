# SPDX-License-Identifier: Apache-2.0
"""The verdict: whether a map can be used, in one word, by rules that are written here.

Pure functions of what held-out pairs showed. `judge` measures.
"""

import dataclasses
import math
from typing import Any, Literal

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

from jaxalign.errors import check_number

Word = Literal["usable", "weak", "none", "too_few"]
WORDS: tuple[Word, ...] = ("usable", "weak", "none", "too_few")

FEWEST_GROUPS = 10
"""Fewer groups of anchors are too few to tell anything."""

FULL_INDEX = 1000
"""Rows that a held-out row is searched among, its partner among them."""

_FULL_ENOUGH = 900
_LEVEL, _P, _TIMES_CHANCE, _LEAST = 0.95, 1e-5, 5.0, 0.01


@dataclasses.dataclass(frozen=True)
class Marks:
    """Shares of held-out rows that find their partner among 1,000.

    In an index of fewer rows a mark m becomes ``m ** (log(rows) / log(1000))``: the
    share of hits falls about as a power of the number of rows.

    Attributes:
      weak: least lower bound of a map that is called weak.
      usable: least lower bound of one that is called usable.

    >>> Marks().at(1000)
    Marks(weak=0.05, usable=0.5)
    """

    weak: float = 0.05
    usable: float = 0.5

    def __post_init__(self):
        check_number("Marks", "weak", self.weak, above=0.0, below=1.0)
        check_number("Marks", "usable", self.usable, least=self.weak, below=1.0)

    def at(self, rows: int) -> "Marks":
        """Marks in an index of so many rows."""
        power = math.log(max(2, min(rows, FULL_INDEX))) / math.log(FULL_INDEX)
        return Marks(self.weak**power, self.usable**power)


@dataclasses.dataclass(frozen=True)
class Figure:
    """One figure on held-out pairs, with its 95 % interval over groups.

    Attributes:
      value: the figure.
      low: lower bound.
      high: upper bound.
      shuffled: the same figure of pairs that were shuffled before the fit.
    """

    value: float
    low: float
    high: float
    shuffled: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """Give the figure as JSON values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """What pairs showed that the fits had not seen.

    Attributes:
      top1: share of rows that find their partner first.
      neighbours: share of a row's nearest neighbours that are the target model's own.
      explained: share of the target rows' spread about their mean that carried rows
        explain; below 0 they are farther off than the mean.
      rows: of the index that was searched, the partner among them.
      chance: share of hits by chance.
      queries: rows that were asked.
      groups: groups that they are of.
      outside: share of the energy of centred source rows that lies outside what the
        map carries.
      doubled: top-1 that twice as many anchors would reach; None if unknown.
      p_value: probability of so many hits, or more, by chance.
      by_region: whether rows were held out with all that lie near them, since they
        found their partners only among rows like them.
    """

    top1: Figure
    neighbours: Figure
    explained: Figure
    rows: int
    chance: float
    queries: int
    groups: int
    outside: float
    doubled: float | None
    p_value: float
    by_region: bool = False

    def to_json(self) -> dict[str, Any]:
        """Give all figures as JSON values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a map can be used.

    Attributes:
      word: "usable", "weak", "none" or "too_few".
      sentence: the word in capitals, and why.
      modality: whose pairs were held out.
      anchors: pairs of that modality.
      figures: held out; None below 10 groups.
      marks: for 1,000 rows, that the word goes by.
      others: verdicts of further modalities, by the same fits.
    """

    word: Word
    sentence: str
    modality: str
    anchors: int
    figures: HeldOut | None
    marks: Marks = Marks()
    others: dict[str, "Verdict"] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.sentence

    def meets(self, least: Literal["usable", "weak"]) -> bool:
        """Whether the word is this one, or a better one."""
        return self.word == "usable" or self.word == least

    def to_json(self) -> dict[str, Any]:
        """Give the verdict as JSON values, for a map's card or a command."""
        figures = None if self.figures is None else self.figures.to_json()
        return {
            "word": self.word,
            "sentence": self.sentence,
            "modality": self.modality,
            "anchors": self.anchors,
            "heldout": figures,
            "marks": dataclasses.asdict(self.marks),
            "others": {name: one.to_json() for name, one in self.others.items()},
        }


def decide(figures: HeldOut | None, marks: Marks) -> Word:
    """Find the word, by three rules in this order.

    1. Without figures, for want of 10 groups: too_few.
    2. Hits that are not above noise, or whose lower bound is below the mark of weak:
       none if the upper bound is below that mark too, else too_few. Above noise means
       p < 1e-5, at least 5 times chance and at least 1 %.
    3. usable or weak by the lower bound of top-1.
    """
    if figures is None:
        return "too_few"
    at, top1 = marks.at(figures.rows), figures.top1
    least = max(_LEAST, _TIMES_CHANCE * figures.chance)
    if figures.p_value < _P and top1.value >= least and top1.low >= at.weak:
        return "usable" if top1.low >= at.usable else "weak"
    return "none" if top1.high < at.weak else "too_few"


def share_figure(
    hits: Float[np.ndarray, " n"], groups: Int[np.ndarray, " n"]
) -> Figure:
    """Wilson interval of a share, with as many trials as the groups are worth.

    The variance of the share is measured over groups; trials are as many independent
    ones as would give it, between the groups and the rows.

    References:
      Wilson, "Probable inference", 1927; Kish, "Survey sampling", 1965 (effective
      sample size).
    """
    share = float(np.mean(hits))
    sums, sizes = _by_group(hits - share, groups)
    count, total = len(sizes), float(np.sum(sizes))
    variance = count / max(1, count - 1) * float(np.sum(sums**2)) / total**2
    trials = share * (1 - share) / variance if variance > 0 else count
    trials = min(max(trials, min(count, total)), total)
    z = float(scipy.stats.norm.ppf(0.5 + _LEVEL / 2))
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials)
    half *= math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # Rounding may take a bound past the share itself.
    return Figure(
        share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
    )


def ratio_figure(
    part: Float[np.ndarray, " n"],
    whole: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
) -> Figure:
    """Interval by Student's t of a ratio of two sums, linearised, over groups."""
    ratio = float(np.sum(part) / np.sum(whole))
    sums, _ = _by_group(part - ratio * whole, groups)
    count = len(sums)
    error = math.sqrt(count / max(1, count - 1) * float(np.sum(sums**2)))
    error /= float(np.sum(whole))
    half = float(scipy.stats.t.ppf(0.5 + _LEVEL / 2, max(1, count - 1))) * error
    return Figure(ratio, ratio - half, ratio + half)


def chance_of(hits: Float[np.ndarray, " n"], groups, chance: float) -> float:
    """Probability of so many hits or more, with every group one trial.

    Rows of a group stand or fall together at worst; so that is the careful count.
    """
    sums, sizes = _by_group(hits, groups)
    trials = len(sizes)
    found = math.floor(trials * float(np.sum(sums) / np.sum(sizes)) + 1e-9)
    return float(scipy.stats.binom.sf(found - 1, trials, min(1.0, chance)))


def _by_group(values, groups):
    """Sum of the values of each group, and its size."""
    inverse = np.unique(groups, return_inverse=True)[1].ravel()
    return np.bincount(inverse, weights=values), np.bincount(inverse)


def describe(word: Word, figures: HeldOut | None, anchors: int, groups: int) -> str:
    """Say the verdict in one sentence, and what more anchors would do."""
    head = f"{word.upper()}: "
    if figures is None and groups >= FEWEST_GROUPS:
        return f"{head}{anchors:,} anchors determine too little; pass some hundreds."
    if figures is None:
        return (
            f"{head}{anchors:,} anchors in {groups:,} groups are too few to hold any "
            f"out; pass {FEWEST_GROUPS} groups at least, better some hundreds."
        )
    found = f"{_percent(figures.top1.value)} find their partner among {figures.rows:,}"
    shuffled = _percent(figures.top1.shuffled or 0.0)
    said = f"{head}on held-out pairs {found} (shuffled pairs: {shuffled})"
    if figures.by_region:
        said += ", once rows that resemble each other are held out together"
    if word == "none":
        return (
            f"{said}; check that row i of both sides shows one thing, or take other "
            "models."
        )
    more = _more(figures, anchors)
    if word == "too_few":
        low, high = _percent(figures.top1.low), _percent(figures.top1.high)
        return f"{said}; with so few this means {low} to {high}.{more}"
    return f"{said}.{more}"


def _more(figures: HeldOut, anchors: int) -> str:
    """What twice as many anchors would do."""
    if figures.doubled is None:
        return ""
    if figures.doubled < figures.top1.value + 0.01:
        if figures.rows < _FULL_ENOUGH:
            return ""  # in a small index nearly everything is found
        return f" More than {anchors:,} anchors would change little."
    reach = _percent(figures.doubled)
    return f" Twice as many as {anchors:,} anchors would reach about {reach}."


def _percent(share: float) -> str:
    """A share in per cent: whole numbers, but small and large ones with a digit."""
    value = 100 * share
    if value < 10 or 99 < value < 100:
        return f"{value:.1f} %"
    return f"{value:.0f} %"
