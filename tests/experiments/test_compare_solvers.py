# SPDX-License-Identifier: Apache-2.0
"""The comparison of solvers: its judge, its rules, and the command at toy size."""

import dataclasses
import html
import json

import numpy as np
import pytest
import scipy.linalg

import jaxalign as ja
from experiments import compare_solvers, objective_study
from experiments.solvers.compare import (
    COMPARED,
    PLANTED,
    RULE,
    TINY_COMPARED,
    Planted,
    compare,
)
from experiments.solvers.problem import problem_of
from experiments.solvers.report import (
    Results,
    describe,
    describe_components,
    outcome_rows,
    page_sections,
)
from experiments.solvers.table import places
from jaxalign.moments import init_moments, update_moments
from tests.cases import rows_pair
from tests.experiments.launching import launch_here

# Solvers call optax.
# A study takes its time; its optimisers call optax.
pytestmark = [pytest.mark.slow, pytest.mark.standard_promotion]
SMALL = Planted("det -1", "small", width=6, anchors=200, reflect=True, steps=160)


@pytest.fixture(scope="module")
def problem():
    return SMALL.draw(0)


@pytest.fixture(scope="module")
def outcome(problem):
    return compare(problem, TINY_COMPARED, rounds=1)


def test_excess_is_that_of_scipys_optimum(problem):
    cross = np.asarray(problem.moments.cross_covariance, np.float64)
    best, _ = scipy.linalg.orthogonal_procrustes(np.eye(6), cross)
    start = np.asarray(problem.start, np.float64)
    assert problem.excess(best)[0] == pytest.approx(0, abs=1e-12)
    assert problem.excess(start)[0] == pytest.approx(1, abs=1e-6)
    middle, _ = scipy.linalg.polar(0.7 * best + 0.3 * start)
    gap = np.sum(cross * best) - np.sum(cross * start)
    expected = (np.sum(cross * best) - np.sum(cross * middle)) / gap
    assert problem.excess(middle)[0] == pytest.approx(expected, rel=1e-6)
    # Leaving the manifold gains nothing, and is measured.
    excess, drift = problem.excess(1.1 * best)
    assert excess == pytest.approx(0, abs=1e-12)
    assert drift == pytest.approx(0.21)


def test_start_and_planted_rotation_are_of_the_reflected_component(problem):
    assert np.linalg.det(problem.start) == pytest.approx(-1, abs=1e-4)
    assert np.linalg.det(problem.planted) == pytest.approx(-1, abs=1e-4)
    assert problem.distance(problem.planted) == 0


def test_condition_number_is_near_the_one_that_is_asked_for():
    for wanted in (10.0, 1000.0):
        case = dataclasses.replace(SMALL, condition=wanted, noise=0.0)
        # Of 200 rows: a variance errs by a tenth, and so do both ends.
        assert case.draw(1).condition == pytest.approx(wanted, rel=0.4)


def test_unequal_widths_have_a_start_and_a_condition():
    rng = np.random.default_rng(0)
    moments = update_moments(init_moments(4, 6), *rows_pair(rng, 50, 4, 6))
    found = problem_of(moments, "wide", "", steps=10)
    assert found.start.shape == (6, 4)
    assert found.excess(ja.solve.solve_procrustes(moments).rotation)[0] < 1e-10
    assert np.isfinite(found.condition)
    assert np.isnan(found.distance(found.start))


def test_records_are_ascending_and_end_at_the_last_step():
    for steps in (2, 40, 47, 3000):
        found = places(steps)
        assert len(found) == 48
        assert (found[0], found[-1]) == (1, steps)
        assert (np.diff(found) >= 0).all()


def test_solvers_get_there(problem, outcome):
    _check_solvers(problem, outcome, TINY_COMPARED)
    assert all(one.step_seconds > 0 for one in outcome.convergence.courses)


@pytest.mark.slow
def test_the_other_solvers_get_there(problem):
    others = [label for label in COMPARED if label not in TINY_COMPARED]
    outcome = compare(problem, others, rounds=0)
    _check_solvers(problem, outcome, others)


def _check_solvers(problem, outcome, labels):
    courses = {one.label: one for one in outcome.convergence.courses}
    assert set(courses) == set(labels)
    for label, course in courses.items():
        assert course.steps_to() is not None, label
        assert np.linalg.det(outcome.rotations[label]) == pytest.approx(-1, abs=1e-4)
        # All find the same map, as far from the planted one as noise put it.
        closed = outcome.rotations["closed form, svd"]
        np.testing.assert_allclose(outcome.rotations[label], closed, atol=5e-3)
    for mark in outcome.convergence.marks:
        assert abs(mark.excess) < 1e-10
    assert abs(problem.excess(outcome.rotations[outcome.best()])[0]) < 1e-10


def test_settings_of_another_problem_are_kept(problem, outcome):
    again = compare(problem, TINY_COMPARED, rounds=0, settings=outcome.settings)
    assert [one.label for one in again.convergence.courses] == list(TINY_COMPARED)
    for one in again.convergence.courses:
        (before,) = (c for c in outcome.convergence.courses if c.label == one.label)
        np.testing.assert_allclose(one.excess, before.excess, atol=1e-6)


def test_a_start_in_the_wrong_component_is_told(outcome):
    told, described = describe_components(outcome)
    assert "The optimum has determinant -1, the start +1." in told
    assert "and from its reflection" in described
    assert "the other start's" in described


def test_rows_and_page_hold_the_numbers(outcome):
    rows = outcome_rows(outcome, {"note": 1})
    assert {row.method for row in rows} >= set(TINY_COMPARED)
    by_metric = {row.metric: row for row in rows if row.method == "pogo"}
    (pogo,) = (c for c in outcome.convergence.courses if c.label == "pogo")
    assert by_metric["steps_to_target"].value == pogo.steps_to()
    assert by_metric["seconds_to_target"].value == pytest.approx(
        pogo.steps_to() * pogo.step_seconds
    )
    text = describe([outcome], [], rows)
    assert "all optimisers got there" in text
    sections = page_sections(Results(planted=[outcome], rows=rows, said=[text]))
    page = html.unescape("".join(sections))
    assert page.count("<svg") == 1
    assert text in page
    assert RULE in page


def test_toy_sizes_keep_what_makes_a_case():
    for case in PLANTED:
        small = case.tiny()
        assert small.width <= 12
        kept = ("name", "condition", "noise", "reflect")
        for field in kept:
            assert getattr(small, field) == getattr(case, field)


def test_the_study_of_objectives_is_a_part(outcome, monkeypatch):
    rows = outcome_rows(outcome, {})
    asked = []

    def study(settings, *embedded):
        asked.append((settings, embedded))
        return objective_study.Study(rows, ["Do this.", "Sizes."], ["<section>"])

    monkeypatch.setattr(objective_study, "run_study", study)
    monkeypatch.setattr(compare_solvers, "_embed", lambda config: ("split", "texts"))
    config = compare_solvers.Config(study_seeds=(7, 8), batch_size=3)
    results = Results()
    compare_solvers.compare_objectives(config, results)
    (settings, embedded), *_ = asked
    assert (settings.seeds, settings.batch_size) == ((7, 8), 3)
    assert embedded == ("split", "texts")
    assert results.rows == rows
    page = "".join(page_sections(results))
    for text in ("Do this.", "Sizes.", "<section>"):
        assert text in page
    json.dumps(config.as_json())


def run_command(workdir, *flags):
    return launch_here(
        "experiments.compare_solvers",
        "--tiny",
        f"--workdir={workdir}",
        *flags,
        unused=("fit_on",),
    )


@pytest.mark.slow
def test_tiny_run_writes_maps_curves_and_rows(data_dir, tmp_path):
    done = run_command(tmp_path / "run", f"--data_dir={data_dir}")
    assert done.returncode == 0, done.stderr
    assert "On unseen classes all maps lie within" in " ".join(done.stdout.split())
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    unseen = [row for row in rows if row["table"] == "unseen classes"]
    methods = {row["method"] for row in unseen}
    assert set(TINY_COMPARED) | {"closed form, svd"} <= methods
    amap = ja.AlignmentMap.load(tmp_path / "run" / "map.safetensors")
    assert amap.card["solver"].startswith("closed form")
    assert amap.card["fit"]["family"]["name"] == "given"
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "A start in the wrong component" in page


@pytest.mark.slow
def test_stores_take_the_place_of_encoders(tmp_path):
    n, d = 600, 8
    rows = rows_pair(np.random.default_rng(0), n, d, d, mean=0.5, noise=0.1)
    for side, name in zip(rows, ("source", "target"), strict=True):
        with ja.EmbeddingStore.create(
            tmp_path / name,
            space=name,
            examples=n,
            part_examples=n,
            modalities={"image": d},
        ) as writer:
            ids = [f"{number:05d}" for number in range(n)]
            writer.append({"image": side}, first=0, ids=ids)
            writer.finish()
    stores = [f"--{side}_store={tmp_path}/{side}" for side in ("source", "target")]
    done = run_command(tmp_path / "run", "--parts=data", *stores)
    assert done.returncode == 0, done.stderr
    assert "of the held-out residual" in " ".join(done.stdout.split())
    found = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    (row,) = (
        row
        for row in found
        if (row["method"], row["metric"]) == ("closed form, svd", "held_out_residual")
    )
    image = ja.fit_map({"image": rows}, ja.families.PAPER)
    mapped = np.asarray(image(rows[0], "image", normalize=False))
    spread = np.square(rows[1] - rows[1].mean(0)).sum()
    assert row["value"] == pytest.approx(
        np.square(mapped - rows[1]).sum() / spread, rel=0.3
    )
    done = run_command(tmp_path / "run", stores[0])
    assert done.returncode == 2
    assert "expected both or none" in done.stderr


def test_mistakes_are_one_line(tmp_path):
    for flags, words in (
        (["--parts=planets"], "`--parts`: expected some of planted"),
        (["--fit_on=text"], "--fit_on"),
        (["--steps=1"], "--steps"),
    ):
        done = run_command(tmp_path, *flags)
        assert done.returncode == 2
        assert words in done.stderr.strip().splitlines()[-1]
