# SPDX-License-Identifier: Apache-2.0
"""What `objective_study` says of its rows: the finding, and tables of differences."""

import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.objective_choice import Candidate
from experiments.objective_families import FAMILIES
from jaxalign.evaluate.rows import METRICS, ResultRow, average_over_seeds
from jaxalign.evaluate.seed_differences import SeedDifference, differences_over_seeds
from jaxalign.report.document import paragraphs, section, table

CLOSED = "closed form"
CHOSEN = {False: "chosen, images alone", True: "chosen, with texts"}
"""The objective that held-out anchors choose, by whether texts are read."""
CROSSINGS = ("source_image_to_target_text_at_1", "target_image_to_source_text_at_1")
"""The cross-modal rows that the question is about."""
MEASURED = (
    *CROSSINGS,
    "text_to_text_at_1",
    "image_to_image_at_1",
    "caption_cosine",
    "zeroshot_mapped_image_to_mapped_text",
)
"""Metrics of the study, in the order of its tables."""


SAID = {
    False: ("contrastive", "kernel", CHOSEN[False]),
    True: ("contrastive, all pairs", "kernel, image-text", CHOSEN[True]),
}
"""Methods of which the finding speaks, by whether texts are read."""


class Choice(NamedTuple):
    """A candidate that held-out anchors chose, and the closed form's score there."""

    seed: int
    table: str
    method: str
    candidate: Candidate
    closed: float


def describe_study(rows: Sequence[ResultRow], tables: Sequence[str]) -> list[str]:
    """Say whether another objective beats the closed form, and by how much.

    Returns:
      Paragraphs: what a user should do, and for each table the changes behind it.
    """
    means = {
        (a.table, a.method, a.metric): a.mean or 0.0 for a in average_over_seeds(rows)
    }
    found = {
        (one.table, one.method, one.metric): one
        for one in differences_over_seeds(rows, CLOSED)
    }
    seeds = max(one.seeds for one in found.values())
    if seeds == 1:
        advice = ["One split gives no interval, so no verdict: take more seeds."]
    else:
        bases = ("With paired images alone", "With paired texts too")
        advice = [
            _advise(
                basis,
                [found[t, method, metric] for t in tables for metric in CROSSINGS],
            )
            for basis, method in zip(bases, CHOSEN.values(), strict=True)
        ]
    texts = [" ".join(advice)]
    for name in tables:
        levels = " and ".join(
            f"{100 * means[name, CLOSED, metric]:.1f} % ({METRICS[metric].label})"
            for metric in CROSSINGS
        )
        parts = [
            f"Unseen classes, {_short(name)}: the closed form of the images finds "
            f"{levels}."
        ]
        for reads, methods in SAID.items():
            changes = "; ".join(
                f'"{method}" '
                + " and ".join(_change(found[name, method, m]) for m in CROSSINGS)
                for method in methods
                if (name, method, CROSSINGS[0]) in found
            )
            fitted = "with the anchors' texts" if reads else "on images alone"
            parts.append(f"Changes in points, fitted {fitted}: {changes}.")
        texts.append(" ".join(parts))
    if seeds > 1:
        texts[-1] += (
            " Brackets: 95 % t intervals of the paired differences over "
            f"{seeds} splits of the classes."
        )
    return texts


def _advise(basis: str, changes: Sequence[SeedDifference]) -> str:
    """Say what a user should do, by the crossings of the chosen objectives."""
    signs = [one.sign for one in changes]
    if min(signs) >= 0 and max(signs) > 0:
        rows = "both crossings" if min(signs) > 0 else "a crossing"
        return f"{basis}, a chosen objective gains on {rows}: worth its fit."
    if max(signs) > 0:
        return (
            f"{basis}, a chosen objective gains on one crossing and loses on another."
        )
    if min(signs) < 0:
        return f"{basis}, stay with the closed form: a chosen objective loses."
    most = 100 * max(one.interval[1] for one in changes if one.interval)
    return (
        f"{basis}, stay with the closed form: no change is told from 0, and a gain of "
        f"more than {most:.1f} points is outside every interval."
    )


def _scale(metric: str) -> tuple[float, int]:
    """Factor and digits of a metric as it is shown, shares in percent."""
    return (100.0, 1) if METRICS[metric].unit == "share" else (1.0, 3)


def _change(one: SeedDifference) -> str:
    """A difference with its interval."""
    factor, digits = _scale(one.metric)
    text = f"{factor * one.mean:+.{digits}f}"
    if one.interval is None:
        return text
    low, high = (factor * end for end in one.interval)
    return f"{text} [{low:+.{digits}f}, {high:+.{digits}f}]"


def study_sections(
    rows: Sequence[ResultRow], tables: Sequence[str], choices: Iterable[Choice]
) -> list[str]:
    """Give the sections of a page: differences by table, and what was chosen."""
    parts = [section("How to read this", paragraphs(_HOW))]
    for name in tables:
        heading = f"Differences to the closed form: {_short(name)}"
        own = [row for row in rows if row.table == name]
        parts.append(section(heading, _differences(own)))
    chosen = _chosen(list(choices), tables)
    return [*parts, section("What held-out anchors chose", chosen)]


_HOW = (
    "All maps are rotations of the same anchors, with the same means and no scale. "
    "Temperature, number of steps, pull towards the closed form and, in the rows "
    "called chosen, the objective itself come from folds of whole anchor classes: for "
    "objectives of images alone by source image -> target image @1, for there are no "
    "texts to choose by, and for those that read texts by the mean of both crossings. "
    "The closed form is among what may be chosen. The step length is fixed, for the "
    "number of steps says how far a descent goes. All is then fitted once on all "
    "anchors and evaluated once on the classes that were never anchors.",
    "Every entry is the mean over splits of the classes, then the paired difference to "
    "the closed form with its 95 % t interval over splits. The splits share one data "
    "set and one pair of models, and many rows are compared: of twenty intervals one "
    "leaves out 0 by chance. Scores on held-out anchors are the best of many, so part "
    "of what they gain is luck.",
    "With both sides centred, aligned image -> aligned text does not depend on the "
    "rotation: it turns both sides alike.",
)


def _short(name: str) -> str:
    """How the maps of a table are used, in a few words."""
    return name.split(", ")[-1]


def _differences(rows: Sequence[ResultRow]) -> str:
    """Tables of means and differences, images alone and with texts."""
    means = {(a.method, a.metric): a.mean or 0.0 for a in average_over_seeds(rows)}
    found = {(d.method, d.metric): d for d in differences_over_seeds(rows, CLOSED)}
    html = ""
    for texts, heading in ((False, "Images alone"), (True, "With the anchors' texts")):
        methods = [
            method
            for method, family in FAMILIES.items()
            if family.texts == texts and (method, MEASURED[0]) in means
        ]
        lines = []
        for method in (CLOSED, *methods, CHOSEN[texts]):
            entries = []
            for metric in MEASURED:
                factor, digits = _scale(metric)
                entry = f"{factor * means[method, metric]:.{digits}f}"
                if method != CLOSED:
                    # An interval stays on one line.
                    change = _change(found[method, metric]).replace(", ", ",\xa0")
                    entry += f" {change}"
                entries.append(entry)
            lines.append([method, *entries])
        heads = ["objective", *(METRICS[metric].label for metric in MEASURED)]
        html += f"<h3>{heading}</h3>{table(heads, lines)}"
    return html


def _chosen(choices: Sequence[Choice], tables: Sequence[str]) -> str:
    """A table of what each method's candidates came to, and how they scored."""
    html = ""
    for name in tables:
        lines = []
        for method in dict.fromkeys(c.method for c in choices):
            own = [c for c in choices if (c.table, c.method) == (name, method)]
            held = np.mean([c.candidate.score for c in own])
            gain = held - np.mean([c.closed for c in own])
            counts = collections.Counter(_setting(c.candidate, method) for c in own)
            settings = "; ".join(f"{text} ({n}x)" for text, n in counts.most_common())
            lines.append([method, f"{100 * held:.1f} ({100 * gain:+.1f})", settings])
        heads = ["objective", "held-out anchors @1 (to the closed form)", "chosen"]
        html += f"<h3>{_short(name)}</h3>{table(heads, lines)}"
    return html


def _setting(candidate: Candidate, method: str) -> str:
    """What was chosen, in a few words."""
    if method in CHOSEN.values():
        return candidate.family
    family = FAMILIES[candidate.family]
    words = [f"{family.knob} {candidate.knob:g}"] if family.knob else []
    if candidate.step:
        words += [f"pull {candidate.pull:g}", f"{candidate.step} steps"]
    return ", ".join(words)
