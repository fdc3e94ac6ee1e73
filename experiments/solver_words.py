# SPDX-License-Identifier: Apache-2.0
"""What a comparison of solvers says: rows, a table of metrics, and sentences."""

import math
from collections.abc import Sequence

import numpy as np

import jaxalign as ja
from experiments.solver_course import Outcome
from experiments.solver_data import HELD_OUT, UNSEEN
from experiments.solver_programs import MOMENTUM
from jaxalign.evaluate.rows import METRICS, ResultRow

_CLOSED = "closed form, svd"


def outcome_rows(
    outcome: Outcome, config: dict, *, timed: bool = True
) -> list[ResultRow]:
    """Give the numbers of every solver on a problem."""
    problem, convergence = outcome.problem, outcome.convergence
    found: list[tuple[str, str, float | None]] = []
    for mark in convergence.marks:
        found += [(mark.label, "excess", mark.excess)]
        found += [(mark.label, "largest_drift", mark.drift)]
        if timed:
            found += [(mark.label, "seconds", mark.seconds)]
    for course in convergence.courses:
        steps = course.steps_to(convergence.target)
        found += [
            (course.label, "excess", float(course.excess[-1])),
            (course.label, "largest_drift", float(course.drift.max())),
            (course.label, "steps_to_target", steps),
            (course.label, "learning_rate", outcome.settings[course.label].rate),
        ]
        if timed:
            seconds = None if steps is None else steps * course.step_seconds
            found += [(course.label, "seconds_to_target", seconds)]
            found += [(course.label, "step_seconds", course.step_seconds)]
    if problem.planted is not None:
        for label, rotation in outcome.rotations.items():
            found.append((label, "distance_to_planted", problem.distance(rotation)))
    anchors = int(problem.moments.rows)
    return [
        ResultRow(
            f"convergence, {problem.name}",
            label,
            metric,
            None if value is None or not math.isfinite(value) else float(value),
            None,
            anchors,
            problem.seed,
            config,
        )
        for label, metric, value in found
    ]


def describe(
    planted: Sequence[Outcome], data: Sequence[Outcome], rows: Sequence[ResultRow]
) -> str:
    """Say in a few sentences what came out."""
    said = []
    if planted:
        said.append(_describe_planted(planted))
    if data:
        said.append(_describe_data(data, means_over_seeds(rows)))
    return " ".join(said)


def describe_components(outcome: Outcome) -> list[str]:
    """Start in the wrong component, and say what `fit` makes of it."""
    problem = outcome.problem
    wrong = ja.stiefel.reflect(problem.start)
    optimizer = ja.stiefel.pogo(problem.unit_rate, momentum=MOMENTUM)
    options = {"steps": problem.steps, "tolerance": 1e-5}
    given, both = (
        ja.stiefel.fit(problem.objective, wrong, optimizer, components=which, **options)
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
    ratios, fastest, missed = [], [], {}
    for outcome in outcomes:
        convergence = outcome.convergence
        marks = [m for m in convergence.marks if abs(m.excess) <= convergence.target]
        best = convergence.fastest()
        for course in convergence.courses:
            if course.steps_to(convergence.target) is None:
                missed[course.label] = missed.get(course.label, 0) + 1
        if best is not None and marks:
            fastest.append(best.label)
            steps = best.steps_to(convergence.target) or 0
            seconds = min(mark.seconds for mark in marks)
            ratios.append(steps * best.step_seconds / max(seconds, 1e-9))
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
    for metric in ("source_image_to_target_text_at_1", "text_to_text_at_1"):
        level = means[_CLOSED].get(metric)
        if level is None:
            continue
        most = max(abs(found[metric] - level) for found in means.values())
        apart.append(
            f"{100 * most:.1f} points of {METRICS[metric].label} "
            f"(closed form {100 * level:.1f} %)"
        )
    for metric in ("held_out_residual",):
        level = means[_CLOSED].get(metric)
        if level is not None:
            most = max(abs(found[metric] - level) for found in means.values())
            apart.append(f"{most:.1e} of the held-out residual ({level:.3f})")
    where = UNSEEN if "text_to_text_at_1" in means[_CLOSED] else HELD_OUT
    return text + f" On {where} all maps lie within " + " and ".join(apart) + "."


def means_over_seeds(rows: Sequence[ResultRow]) -> dict[str, dict[str, float]]:
    """By solver and metric, the mean over seeds."""
    values: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.table in (UNSEEN, HELD_OUT) and row.value is not None:
            of_metric = values.setdefault(row.method, {}).setdefault(row.metric, [])
            of_metric.append(row.value)
    return {
        label: {metric: float(np.mean(found)) for metric, found in of.items()}
        for label, of in values.items()
    }
