# SPDX-License-Identifier: Apache-2.0
"""What `objective_study` says of its rows: the finding, and tables of differences."""

import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple

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


class Choice(NamedTuple):
    """A candidate that held-out anchors chose, and the closed form's score there."""

    seed: int
    table: str
    method: str
    candidate: Candidate
    closed: float


def describe_study(rows: Sequence[ResultRow], tables: Sequence[str]) -> str:
    """Say in plain sentences whether another objective beats the closed form."""
    means = {(a.table, a.method, a.metric): a.mean for a in average_over_seeds(rows)}
    found = {
        (one.table, one.method, one.metric): one
        for one in differences_over_seeds(rows, CLOSED)
    }
    sentences = []
    first = tables[0]
    for texts, name in CHOSEN.items():
        ours = [found[first, name, metric] for metric in CROSSINGS]
        allowed = "With the anchors' texts allowed" if texts else "On images alone"
        changes = " and ".join(
            f"{METRICS[one.metric].label} by {_change(one)} points" for one in ours
        )
        sentences.append(
            f"{allowed}, the objective that held-out anchors choose changes {changes}."
        )
    levels = " and ".join(
        f"{100 * (means[first, CLOSED, metric] or 0.0):.1f} %" for metric in CROSSINGS
    )
    sentences.insert(1, f"The closed form of the images finds {levels}.")
    for name in tables[1:]:
        parts = [
            " and ".join(_change(found[name, method, metric]) for metric in CROSSINGS)
            for method in CHOSEN.values()
        ]
        sentences.append(
            f"For {_short(name)} the changes are {parts[0]} on images alone, "
            f"{parts[1]} with texts."
        )
    sentences.append(_verdict(found, tables))
    seeds = max(one.seeds for one in found.values())
    sentences.append(
        f"Brackets: 95 % t intervals of paired differences over {seeds} splits of the "
        "classes."
    )
    return " ".join(sentences)


def _verdict(found: dict, tables: Sequence[str]) -> str:
    """Say what a user should do, by the chosen objectives and their intervals."""
    advice = []
    for texts, name in CHOSEN.items():
        signs = [found[t, name, metric].sign for t in tables for metric in CROSSINGS]
        basis = "With paired texts too" if texts else "With paired images alone"
        if min(signs) >= 0 and max(signs) > 0:
            every = "" if min(signs) > 0 else " on some rows"
            advice.append(f"{basis}, another objective is worth its fit{every}.")
        elif max(signs) > 0:
            advice.append(f"{basis}, another objective helps some rows and hurts some.")
        else:
            worse = " (it gets worse)" if min(signs) < 0 else ""
            advice.append(f"{basis}, stay with the closed form{worse}.")
    return " ".join(advice)


def _change(one: SeedDifference, *, brackets: bool = True) -> str:
    """A difference with its interval, shares in percent."""
    share = METRICS[one.metric].unit == "share"
    factor, digits = (100.0, 1) if share else (1.0, 3)
    text = f"{factor * one.mean:+.{digits}f}"
    if one.interval is None or not brackets:
        return text
    low, high = (factor * end for end in one.interval)
    return f"{text} [{low:+.{digits}f}, {high:+.{digits}f}]"


def study_sections(
    rows: Sequence[ResultRow], tables: Sequence[str], choices: Iterable[Choice]
) -> list[str]:
    """Give the sections of a page: differences by table, and what was chosen."""
    choices = list(choices)
    parts = []
    for name in tables:
        own = [row for row in rows if row.table == name]
        parts.append(
            section(
                f"Differences to the closed form: {_short(name)}", _differences(own)
            )
        )
    parts.append(section("What held-out anchors chose", _chosen(choices, tables)))
    return [section("How to read this", paragraphs(_HOW)), *parts]


_HOW = (
    "All maps are rotations of the same anchors, with the same means and no scale. "
    "Temperature, number of steps, pull towards the closed form and, in the rows "
    "called chosen, the objective itself come from folds of whole anchor classes: for "
    "objectives of images alone by source image -> target image @1, for there are no "
    "texts to choose by, and for those that read texts by the mean of both crossings. "
    "The closed form is among what may be chosen. All is then fitted once on all "
    "anchors and evaluated once on the classes that were never anchors.",
    "Every entry is the mean over splits of the classes, then the paired difference to "
    "the closed form with its 95 % t interval over splits. The splits share one data "
    "set and one pair of models, and many rows are compared: of twenty intervals one "
    "leaves out 0 by chance.",
)


def _short(name: str) -> str:
    """How the maps of a table are used, in a few words."""
    return name.split(", ")[-1]


def _differences(rows: Sequence[ResultRow]) -> str:
    """Tables of means and differences, images alone and with texts."""
    means = {(a.method, a.metric): a.mean for a in average_over_seeds(rows)}
    found = {(d.method, d.metric): d for d in differences_over_seeds(rows, CLOSED)}
    html = ""
    for texts, heading in ((False, "Images alone"), (True, "With the anchors' texts")):
        methods = [n for n, family in FAMILIES.items() if family.texts == texts]
        lines = []
        for method in (CLOSED, *methods, CHOSEN[texts]):
            entries = []
            for metric in MEASURED:
                mean = means[method, metric]
                share = METRICS[metric].unit == "share"
                entry = f"{100 * mean:.1f}" if share else f"{mean:.3f}"
                if method != CLOSED:
                    entry += f" ({_change(found[method, metric])})"
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
        for method in (*FAMILIES, *CHOSEN.values()):
            own = [c for c in choices if (c.table, c.method) == (name, method)]
            gain = sum(c.candidate.score - c.closed for c in own) / len(own)
            counts = collections.Counter(
                _setting(c.candidate, method) for c in own
            ).most_common()
            settings = "; ".join(f"{text} ({count}x)" for text, count in counts)
            held = sum(c.candidate.score for c in own) / len(own)
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
