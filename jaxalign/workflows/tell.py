# SPDX-License-Identifier: Apache-2.0
"""A verdict in words for a terminal, and as the JSON values of every command."""

from typing import Any

from jaxalign.trust.verdict import Figure, HeldOut, Verdict


def figure_lines(verdict: Verdict) -> list[str]:
    """Give the three figures, each with its interval and that of shuffled pairs."""
    figures = verdict.figures
    if figures is None:
        return []
    names = {
        "top1": f"partner found first among {figures.rows:,}",
        "neighbours": "nearest neighbours shared with the target model",
        "explained": "target's spread explained",
    }
    width = max(map(len, names.values()))
    return [
        f"{names[key]:<{width}}  {100 * one.value:5.1f} % ({100 * one.low:.1f} to "
        f"{100 * one.high:.1f} %; shuffled {100 * (one.shuffled or 0.0):.1f} %)"
        for key, one in _three(figures).items()
    ]


def verdict_facts(verdict: Verdict) -> dict[str, Any]:
    """Give verdict, sentence, modality and held-out figures as JSON values."""
    return {
        "verdict": verdict.word,
        "sentence": verdict.sentence,
        "modality": verdict.modality,
        "heldout": _heldout(verdict.figures),
    }


def _heldout(figures: HeldOut | None) -> dict[str, Any] | None:
    """Figures, those of shuffled pairs beside them; None where there are none."""
    if figures is None:
        return None
    three = _three(figures)
    return {
        **{name: one.value for name, one in three.items()},
        "shuffled": {name: one.shuffled for name, one in three.items()},
        "intervals": {name: [one.low, one.high] for name, one in three.items()},
        "among": figures.rows,
        "queries": figures.queries,
        "groups": figures.groups,
        "outside": figures.outside,
    }


def _three(figures: HeldOut) -> dict[str, Figure]:
    return {
        "top1": figures.top1,
        "neighbours": figures.neighbours,
        "explained": figures.explained,
    }
