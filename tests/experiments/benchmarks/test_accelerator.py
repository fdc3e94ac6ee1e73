# SPDX-License-Identifier: Apache-2.0
"""The accelerator command: what it may import, what it keeps, what it would notice."""

import dataclasses
import json
import subprocess
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import accelerator
from experiments.benchmarks.accelerator_checks import (
    EPS,
    PRODUCT,
    SUMS,
    draw_rows,
    exact_moments,
    worst_error,
)
from experiments.benchmarks.accelerator_polar import SPECTRA, measure, plant
from experiments.benchmarks.accelerator_record import Measurement
from experiments.benchmarks.accelerator_timing import Deadline, time_in_turns
from tests.experiments.launching import ROOT

ABSENT = (
    *("grain", "pyarrow", "orbax", "tensorflow_datasets", "tensorflow"),
    *("matplotlib", "PIL", "torch", "sentencepiece"),
)
# None in sys.modules makes a package look as if it were not installed.
WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({ABSENT})); "


def run_without(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_it_imports_neither_the_data_pipeline_nor_a_plotting_library():
    done = run_without("from experiments.benchmarks import accelerator")
    assert done.returncode == 0, done.stderr


def run_fakes(monkeypatch, path, sections, **settings):
    """Run sections that compute nothing; return the exit code and the document."""
    fakes = {name: (section, 1.0) for name, section in sections.items()}
    monkeypatch.setattr(accelerator, "SECTIONS", fakes)
    code = accelerator.run(
        accelerator.Settings(out=path, sections=tuple(fakes), **settings)
    )
    return code, json.loads(path.read_text())


def test_what_was_measured_is_kept_after_each_group(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "out.json"
    seen = []

    def kept():
        return [line["name"] for line in json.loads(path.read_text())["lines"]]

    def first(job):
        yield [Measurement("a", "one", errors={"error": float("nan")})]
        seen.append(kept())
        yield [Measurement("a", "two", seconds=1.0, repeats=2)]

    def second(job):
        seen.append(kept())
        yield [Measurement("b", "three", passed=True)]

    code, document = run_fakes(monkeypatch, path, {"a": first, "b": second})
    assert code == 0
    assert seen == [["one"], ["one", "two"]]
    assert [line["errors"] for line in document["lines"]] == [{"error": "nan"}, {}, {}]
    assert document["machine"]["versions"]["jax"]
    assert {one["status"] for one in document["sections"].values()} == {"done"}


def test_a_failed_check_and_an_error_end_in_exit_code_1(tmp_path, monkeypatch, capsys):
    def wrong(job):
        yield [Measurement("a", "sum", passed=False)]

    def broken(job):
        yield [Measurement("b", "before")]
        raise RuntimeError("no such kernel")

    def fine(job):
        yield [Measurement("c", "after", passed=True)]

    sections = {"a": wrong, "b": broken, "c": fine}
    code, document = run_fakes(monkeypatch, tmp_path / "out.json", sections)
    assert code == 1
    assert document["failed"] == ["a: sum", "b: the rest"]
    assert [line["name"] for line in document["lines"]][-1] == "after"
    assert "no such kernel" in document["lines"][2]["trace"]
    assert document["sections"]["b"]["status"] == "failed"
    assert "FAILED: b: the rest" in capsys.readouterr().out


def test_sections_beyond_the_budget_are_named(tmp_path, monkeypatch, capsys):
    sections = {"a": lambda job: pytest.fail("started too late")}
    path = tmp_path / "out.json"
    code, document = run_fakes(monkeypatch, path, sections, budget_seconds=0.0)
    assert code == 0
    assert document["sections"]["a"]["status"].startswith("skipped")
    assert "a: skipped" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--sections=fit,none", "--rounds=0", "--budget=3"])
def test_a_wrong_flag_ends_in_exit_code_2(flag, capsys):
    with pytest.raises(SystemExit) as ended:
        accelerator.parse([flag])
    assert ended.value.code == 2
    assert flag.split("=")[0] in capsys.readouterr().err


def test_calls_that_fail_or_are_slow_hold_up_no_other():
    counts = {"fast": 0, "slow": 0}

    def count(name):
        counts[name] += 1
        return counts[name]

    def fail():
        raise NotImplementedError("not on this backend\nat all")

    calls = {"fast": lambda: count("fast"), "slow": lambda: count("slow"), "no": fail}
    one_run = time_in_turns(calls, rounds=4, deadline=Deadline(60.0), most_seconds=-1.0)
    assert counts == {"fast": 1, "slow": 1}
    assert one_run["no"].error == "NotImplementedError: not on this backend"
    found = time_in_turns(calls, rounds=4, deadline=Deadline(60.0))
    assert (found["fast"].repeats, found["slow"].repeats) == (4, 4)
    # The first run, whose value is kept, is not counted.
    assert found["fast"].value == 2
    late = time_in_turns(calls, rounds=4, deadline=Deadline(-1.0))
    assert {one.seconds for one in late.values()} == {None}
    assert counts == {"fast": 6, "slow": 6}


def test_polar_errors_are_those_of_the_factor_and_not_of_its_columns_order():
    for spectrum in SPECTRA:
        single = plant(12, spectrum)
        exact = single.left @ single.right
        batch = single.batched(3)
        permuted = jnp.asarray(np.stack([exact[:, order] for order in batch.orders]))
        # float32 is what JAX keeps of the reference.
        for problem, factors in ((single, jnp.asarray(exact)), (batch, permuted)):
            assert max(measure(problem, factors).values()) <= 4.0 * EPS
            errors = measure(problem, factors + 1e-3)
            assert errors["distance"] == pytest.approx(1e-3, rel=1e-3)
            assert errors["orthogonality"] > 1e-4
            assert errors["determined"] > 1e-3
            # Twice the factor, twice the trace.
            errors = measure(problem, 2.0 * factors)
            assert errors["trace"] == pytest.approx(1.0, rel=1e-5)


def round_to_tf32(values):
    """Keep ten bits of the fraction."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x1000) & 0xFFFFE000).view(np.float32).astype(np.float64)


def test_the_checks_would_notice_tensor_float_32():
    source, target = draw_rows(True)
    exact = exact_moments(source, target)
    x, y = source - exact["source_mean"], target - exact["target_mean"]
    for convert, bad in ((np.float32, False), (round_to_tf32, True)):
        left, right = (convert(side).astype(np.float64) for side in (y, x))
        cross = {**exact, "cross_covariance": left.T @ right}
        error = worst_error(types.SimpleNamespace(**cross), exact)
        assert (error > 5.0 * SUMS * EPS) == bad
        # The larger size is where rounding averages out the most.
        a, b = np.random.default_rng(0).standard_normal((2, 64, 4096))
        missed = np.abs(convert(a).astype(np.float64) @ convert(b).T - a @ b.T)
        relative = (missed / (np.abs(a) @ np.abs(b).T)).max()
        assert (relative > 5.0 * PRODUCT * EPS) == bad


@pytest.mark.slow
def test_every_section_runs_at_toy_size(tmp_path):
    path = tmp_path / "out.json"
    done = run_without(
        "from experiments.benchmarks import accelerator; sys.exit(accelerator.main())",
        *("--tiny", "--rounds=1", "--budget_seconds=3000", f"--out={path}"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(path.read_text())
    assert set(document["sections"]) == set(accelerator.SECTIONS)
    assert {one["status"] for one in document["sections"].values()} == {"done"}
    names = [field.name for field in dataclasses.fields(Measurement)]
    assert all(list(line) == names for line in document["lines"])
    assert sum(line["passed"] is True for line in document["lines"]) > 30
    ours = [line for line in document["lines"] if line["name"].startswith("jaxalign")]
    assert len(ours) > 20
    assert all(line["seconds"] > 0 and line["repeats"] == 1 for line in ours)
    # Algorithms that the CPU lacks, and torch, are named.
    notes = [line["note"] for line in document["lines"]]
    assert any(note.startswith("not available: NotImpl") for note in notes)
    assert any(note.startswith("left out: not installed") for note in notes)
