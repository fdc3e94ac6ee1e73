# SPDX-License-Identifier: Apache-2.0
"""The benchmark of Stiefel optimisers: its judge and its tuning, at toy size."""

import json
import time

import numpy as np
import pytest
import scipy.linalg

from experiments.solvers.problem import LARGEST_ERROR, TARGET, Judge, plant
from experiments.solvers.tuning import Budget, Method, Setting, tune
from tests.experiments.launching import launch_here


@pytest.mark.parametrize("seed", range(4))
def test_the_start_is_in_the_component_of_the_solution(seed):
    problem = plant(8, 10.0, seed)
    solution = _solution(problem)
    assert np.linalg.det(solution) * np.linalg.det(problem.start) > 0
    assert problem.best == pytest.approx(-float((problem.exact * solution).sum()))
    assert problem.excess(problem.start)[0] == pytest.approx(1.0)


def test_the_judge_measures_at_the_nearest_orthogonal_matrix():
    problem = plant(8, 10.0)
    solution = _solution(problem)
    bump = np.random.default_rng(0).standard_normal((8, 8))
    # A symmetric factor does not move the polar factor, though it moves the value.
    off = solution @ (np.eye(8) + 1e-6 * (bump + bump.T))
    value, error = problem.excess(off)
    assert error == pytest.approx(2e-6 * np.abs(bump + bump.T).max(), rel=1e-3)
    raw = (-float((problem.exact * off).sum()) - problem.best) / -problem.best
    assert abs(value) < 1e-10 < abs(raw)
    assert Judge(problem)(off)


def test_a_point_off_the_manifold_reaches_nothing():
    problem = plant(8, 10.0)
    judge = Judge(problem)
    far = _solution(problem)
    # Skewed columns that leave the value as it is, to first order.
    far = far @ (np.eye(8) + 2e-5 * np.diag([1.0, -1.0] + [0.0] * 6))
    value, error = problem.excess(far)
    assert error > LARGEST_ERROR
    assert not judge(far)
    assert judge.least == 1.0
    assert not judge(1.5 * far)
    assert judge(_solution(problem))
    assert (judge.steps, judge.reached) == (3, True)
    assert abs(value) < 1e-4


def test_a_run_ends_when_it_is_out_of_time_or_not_finite():
    problem = plant(8, 10.0)
    judge = Judge(problem, limit=0.01)
    assert not judge(problem.start)
    time.sleep(0.02)
    assert judge(problem.start)
    assert Judge(problem)(np.full_like(problem.start, np.nan))


@pytest.mark.slow
def test_tuning_finds_the_fastest_rate_from_any_likely_one():
    problem = plant(8, 10.0)
    solution = _solution(problem)
    needed = {-2: 40, -1: 20, 0: 10, 1: 30}

    def run(problem, setting, steps, watch=None):
        exponent = round(float(np.log2(setting.rate)), 3)
        for step in range(1, steps + 1):
            time.sleep(1e-3)
            there = step >= needed.get(exponent, 1000)
            if watch is not None and watch(solution if there else problem.start):
                break

    budget = Budget(steps=60, seconds=1.0)
    for likely in (-3, 0, 2):
        method = Method("toy", run, unit=lambda problem, at=likely: 2.0**at)
        best = tune(method, problem, budget)[0]
        assert best.setting == Setting(rate=1.0)
        assert (best.steps, best.reached) == (10, True)
    again = tune(method, problem, budget, [best])
    assert again[0].setting == best.setting
    # Neighbours only: each is tried until it is slower, then halfway between.
    tried = np.log2([one.setting.rate for one in again]).round(3)
    assert set(tried) >= {-1.0, -0.5, 0.0, 0.5, 1.0}
    assert len(tried) <= 7


def test_what_does_not_reach_the_target_says_how_far_it_came():
    problem = plant(8, 10.0)
    half = problem.start

    def run(problem, setting, steps, watch=None):
        for _ in range(steps):
            if watch is not None and watch(half):
                break

    trials = tune(Method("toy", run, line_search=True), problem, Budget(steps=5))
    assert len(trials) == 1
    assert not trials[0].reached
    assert trials[0].steps == 5
    assert trials[0].least > TARGET


@pytest.mark.slow
@pytest.mark.standard_promotion  # optimisers call optax
def test_every_section_runs_at_toy_size(tmp_path):
    done = launch_here(
        "experiments.benchmarks.stiefel",
        "--tiny",
        "--rounds=1",
        f"--workdir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    lines = json.loads((tmp_path / "benchmark.json").read_text())["lines"]
    assert len({line["section"] for line in lines}) == 4
    reached = [
        line
        for line in lines
        if line["section"].startswith("to 1e-06") and "steps;" in line["note"]
    ]
    # A peer that is installed may miss it; ours do not.
    own = [line for line in reached if line["what"].startswith("jaxalign")]
    assert len(own) == 6
    assert all(line["seconds"] > 0 for line in own)
    drifts = [line for line in lines if line["section"].startswith("orthogonality")]
    assert len(drifts) >= 10
    for line in drifts:
        assert line["at_most"] is None or line["ratio"] <= line["at_most"], line


def _solution(problem):
    """By SciPy, which takes the transpose."""
    rotation, _ = scipy.linalg.orthogonal_procrustes(np.eye(8), problem.exact)
    return rotation
