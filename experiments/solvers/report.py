# SPDX-License-Identifier: Apache-2.0
"""What a comparison of solvers says: rows, sentences, and the sections of a page."""

import collections
import dataclasses
import math
from collections.abc import Sequence

import numpy as np

import jaxalign as ja
from experiments.solvers.anchors import HELD_OUT, UNSEEN
from experiments.solvers.compare import MOMENTUM, RULE, Outcome
from jaxalign.evaluate.rows import METRICS, ResultRow, average_over_seeds
from jaxalign.report.convergence import Course
from jaxalign.report.document import figure, finding, paragraphs, section, table

_CLOSED = "closed form, svd"
_SAID = (
    "source_image_to_target_text_at_1",
    "text_to_text_at_1",
    "held_out_residual",
)
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


def outcome_rows(
    outcome: Outcome, config: dict, *, timed: bool = True
) -> list[ResultRow]:
    """Give the numbers of every solver on a problem."""
    problem, convergence = outcome.problem, outcome.convergence
    found: dict[tuple[str, str], float | None] = {}
    for one in convergence.solvers():
        excess, drift = one.end()
        numbers: dict[str, float | None] = {"excess": excess, "largest_drift": drift}
        if isinstance(one, Course):
            numbers["steps_to_target"] = one.steps_to(convergence.target)
            numbers["learning_rate"] = outcome.settings[one.label].rate
            if timed:
                numbers["seconds_to_target"] = one.seconds_to(convergence.target)
                numbers["step_seconds"] = one.step_seconds
        elif timed:
            numbers["seconds"] = one.seconds
        found |= {(one.label, name): value for name, value in numbers.items()}
    if problem.planted is not None:
        for label, rotation in outcome.rotations.items():
            found[label, "distance_to_planted"] = problem.distance(rotation)
    return [
        ResultRow(
            f"convergence, {problem.name}",
            label,
            metric,
            None if value is None or not math.isfinite(value) else float(value),
            None,
            problem.anchors,
            problem.seed,
            config,
        )
        for (label, metric), value in found.items()
    ]


def describe(
    planted: Sequence[Outcome], data: Sequence[Outcome], rows: Sequence[ResultRow]
) -> str:
    """Say in a few sentences what came out."""
    said = [_describe_planted(planted)] if planted else []
    said += [_describe_data(data, means_over_seeds(rows))] if data else []
    return " ".join(said)


def describe_components(outcome: Outcome) -> list[str]:
    """Start in the wrong component, and say what `fit` makes of it."""
    problem = outcome.problem
    wrong = ja.stiefel.reflect(problem.start)
    optimizer = ja.stiefel.pogo(problem.unit_rate, momentum=MOMENTUM)
    assert problem.moments is not None  # drawn from anchors
    objective = ja.stiefel.procrustes_objective(problem.moments)
    given, both = (
        ja.stiefel.fit(
            objective, wrong, optimizer, steps=problem.steps, components=which
        )
        for which in ("given", "both")
    )
    ends = [problem.excess(np.asarray(found.point))[0] for found in (given, both)]
    return [
        f"The optimum has determinant {int(both.determinant):+d}, the start "
        f"{int(given.determinant):+d}. With components='given', `ja.stiefel.fit` ends "
        f"at an excess of {ends[0]:.1e}, a relative gradient of "
        f"{float(given.gradient_norm):.0e} and determinant "
        f"{int(given.determinant):+d}: the best of the wrong component, which no "
        "gradient tells from the optimum. "
        f"With both components, as by default, it ends at {ends[1]:.1e}.",
        f"What it says then: {both.describe()}",
    ]


def _describe_planted(outcomes: Sequence[Outcome]) -> str:
    """The closed form against the fastest optimiser, over problems."""
    ratios, fastest, missed = [], [], collections.Counter()
    for outcome in outcomes:
        found, target = outcome.convergence, outcome.convergence.target
        missed.update(c.label for c in found.courses if c.steps_to(target) is None)
        closed = [seconds for m in found.marks if (seconds := m.seconds_to(target))]
        best = found.fastest()
        if best is not None and closed:
            fastest.append(best.label)
            ratios.append((best.seconds_to(target) or 0.0) / min(closed))
    if not ratios:
        return (
            "No optimiser reached 1e-6 of the start's excess on the planted problems."
        )
    often = max(set(fastest), key=fastest.count)
    text = (
        f"On {len(outcomes)} planted problems the fastest optimiser (most often "
        f"{often}) needs {min(ratios):.2g} to {max(ratios):.2g} times as long as the "
        "fastest closed form to come within 1e-6 of the start's excess"
    )
    if not missed:
        return text + "; all optimisers got there on all of them."
    names = "; ".join(f"{name} on {count}" for name, count in sorted(missed.items()))
    return f"{text}. Some did not get there: {names}."


def _describe_data(data: Sequence[Outcome], means: dict) -> str:
    """How near optimisers came on real anchors, and whether it matters."""
    convergence, problem = data[0].convergence, data[0].problem
    reached = [c for c in convergence.courses if c.steps_to() is not None]
    left = sorted(abs(c.excess[-1]) for c in convergence.courses)
    condition = problem.condition
    words = f"{condition:.1e}" if math.isfinite(condition) else "beyond float32"
    text = (
        f"On the models' anchors (width {min(problem.shape)}, condition number "
        f"{words}) {len(reached)} of {len(convergence.courses)} optimisers got there "
        f"in {problem.steps:,} steps; all end between {left[0]:.0e} and "
        f"{left[-1]:.0e}."
    )
    if _CLOSED not in means:
        return text
    apart = []
    for metric in _SAID:
        level = means[_CLOSED].get(metric)
        if level is None:
            continue
        most = max(abs(found[metric] - level) for found in means.values())
        apart.append(
            f"{100 * most:.1f} points of {METRICS[metric].label} "
            f"(closed form {100 * level:.1f} %)"
            if metric in METRICS
            else f"{most:.1e} of the held-out residual ({level:.3f})"
        )
    where = UNSEEN if "text_to_text_at_1" in means[_CLOSED] else HELD_OUT
    return text + f" On {where} all maps lie within " + " and ".join(apart) + "."


def means_over_seeds(rows: Sequence[ResultRow]) -> dict[str, dict[str, float]]:
    """By solver and metric, the mean over seeds."""
    means: dict[str, dict[str, float]] = {}
    of_maps = [row for row in rows if row.table in (UNSEEN, HELD_OUT)]
    for one in average_over_seeds(of_maps):
        if one.mean is not None:
            means.setdefault(one.method, {})[one.metric] = one.mean
    return means


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
