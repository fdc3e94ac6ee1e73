# SPDX-License-Identifier: Apache-2.0
"""Launches: a user's mistake is one line on stderr and exit code 2."""

import importlib
import pkgutil
import re

import pytest

import experiments
from tests.experiments.launching import launch


def _slow(arguments, said):
    """A case for the long run: each starts a process of its own."""
    return pytest.param(arguments, said, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source=no/such-model"], "no/such-model.*go online once"),
        (["--target=no/such@v1"], "name='no/such', revision='v1'.*go online once"),
        (["--source=jaxalign/openmoji-clip@v1"], "leave revision out"),
        (["--dtype=float16"], "dtype.*bfloat16"),
        (["--dataset=imagenet"], "no such data set; jaxalign knows openmoji"),
        _slow(["--seeds=0,0"], "--seeds: expected distinct integers"),
        _slow(
            ["--seeds=99999999999999999999"], "--seeds: expected distinct integers of 0"
        ),
        _slow(["--source=~nosuchuser/m"], "nosuchuser.*expected a shipped pair"),
        _slow(["--fit_on=sound"], "fit_on.*image"),
        _slow(["leftover"], "unexpected arguments: leftover"),
        _slow(["--no_such_flag=1"], "no_such_flag"),
        _slow(["--batch_size=0"], "batch_size"),
        _slow(["--dataset=0.tar", "--dataset=1.tar"], "given 2 times.*quote"),
        _slow(["--dataset=openmoji/tiny", "--source=nowhere"], "nowhere"),
        _slow(["--source=."], "expected a checkpoint folder with config.json"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(arguments, said, tmp_path):
    done = launch("experiments.align", f"--workdir={tmp_path}/run", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert re.search(said, done.stderr)
    assert not (tmp_path / "run").exists()


def test_no_two_experiments_define_one_flag():
    found = pkgutil.walk_packages(experiments.__path__, "experiments.")
    names = [module.name for module in found]
    assert {"experiments.fit", "experiments.benchmarks.stiefel"} <= set(names)
    for name in names:
        importlib.import_module(name)  # absl refuses a flag's second definition


def test_help_shows_the_shared_flags():
    done = launch("experiments.align", "--help")
    for flag in ("source", "target", "dataset", "data_dir", "workdir", "fit_on"):
        assert f"--{flag}:" in done.stdout
    assert "--[no]tiny:" in done.stdout


def test_a_workdir_that_is_a_file_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    for workdir in (tmp_path / "file", tmp_path / "file" / "below"):
        done = launch("experiments.align", "--tiny", f"--workdir={workdir}")
        assert done.returncode == 2
        assert "--workdir: expected a folder that can be written" in done.stderr
        assert "Embedding" not in done.stderr


@pytest.mark.slow
def test_a_flag_that_an_experiment_has_no_use_for_is_refused(tmp_path):
    done = launch("experiments.embed", "--tiny", f"--workdir={tmp_path}", "--seeds=1")
    assert done.returncode == 2
    assert "--seeds: this experiment has no use for it" in done.stderr
