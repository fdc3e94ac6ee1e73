# SPDX-License-Identifier: Apache-2.0
"""The page of a comparison of solvers, section by section."""

import dataclasses
from collections.abc import Sequence

import jaxalign as ja
from experiments.solver_course import RULE, Outcome
from experiments.solver_words import means_over_seeds
from jaxalign.evaluate.rows import METRICS, ResultRow
from jaxalign.report.document import figure, finding, paragraphs, section, table

_SHOWN = (
    "image_cosine",
    "caption_cosine",
    "image_to_image_at_1",
    "text_to_text_at_1",
    "source_image_to_target_text_at_1",
    "target_image_to_source_text_at_1",
    "zeroshot_mapped_image_to_mapped_text",
    "held_out_residual",
)
READING = (
    "All solvers start from the same moments, and all optimisers from the same random "
    "point, in the optimum's component. Excess is (f - f*) / (f0 - f*): 1 at the "
    "start, 0 at the optimum; it is measured in float64, at the orthonormal matrix "
    "nearest to the iterate, so that none gains by leaving the manifold. The target, a "
    "dotted line, is 1e-6. Seconds are steps times the median time of a step; "
    "compiling is apart. Steps are recorded evenly on a logarithmic axis: numbers of "
    "steps are upper bounds, a fifth too high at most."
)


@dataclasses.dataclass
class Results:
    """What came out, part by part.

    Attributes:
      planted: problems with a planted rotation.
      data: anchors of models, a seed each.
      rows: all numbers.
      said: the finding, a paragraph a part.
      components: what a start in the wrong component came to.
      sections: more of the page.
      amap: the best map of the first anchors.
    """

    planted: list[Outcome] = dataclasses.field(default_factory=list)
    data: list[Outcome] = dataclasses.field(default_factory=list)
    rows: list[ResultRow] = dataclasses.field(default_factory=list)
    said: list[str] = dataclasses.field(default_factory=list)
    components: list[str] = dataclasses.field(default_factory=list)
    sections: list[str] = dataclasses.field(default_factory=list)
    amap: ja.AlignmentMap | None = None


def page_sections(results: Results) -> list[str]:
    """Set what came out as sections."""
    outcomes = [*results.planted, *results.data[:1]]
    parts = [finding(text) for text in results.said if text]
    if outcomes:
        parts.append(section("How to read this", paragraphs([READING, RULE])))
    if results.data:
        body = metrics_table(results.rows)
        parts.append(section("What the maps are worth, means over seeds", body))
    for outcome in outcomes:
        problem, convergence = outcome.problem, outcome.convergence
        drawn = figure(convergence.draw(problem.name), problem.describe())
        heading = f"{problem.name}: {problem.about}"
        parts.append(section(heading, drawn + convergence.table()))
    if results.components:
        body = paragraphs(results.components)
        parts.append(section("A start in the wrong component", body))
    return [*parts, *results.sections]


def metrics_table(rows: Sequence[ResultRow]) -> str:
    """Set the means over seeds of what the maps are worth, a solver a line."""
    means = means_over_seeds(rows)
    metrics = [name for name in _SHOWN if any(name in m for m in means.values())]
    heads = [
        "",
        *(METRICS[m].label if m in METRICS else m.replace("_", " ") for m in metrics),
    ]
    heads = [head.replace("->", "\N{RIGHTWARDS ARROW}") for head in heads]
    lines = []
    for label, found in means.items():
        lines.append([label, *(_shown(name, found[name]) for name in metrics)])
    return table(heads, lines)


def _shown(metric: str, value: float) -> str:
    """Percent for shares, four digits for others."""
    share = metric in METRICS and METRICS[metric].unit == "share"
    return f"{100 * value:.2f} %" if share else f"{value:.4f}"
