# SPDX-License-Identifier: Apache-2.0
"""Launches: a user's mistake is one line and exit code 2, a bug a traceback and 1."""

import errno
import importlib
import os
import pkgutil
import re
import subprocess
import sys

import numpy as np
import pytest

import experiments
from jaxalign import backend
from jaxalign.data import catalog
from jaxalign.errors import ArgumentError, MissingFileError, is_mistake
from jaxalign.status import SolveError, Status
from jaxalign.store.disk_errors import FullDiskError
from tests.experiments.launching import ROOT, launch, launch_here, launch_main
from tests.test_backend import without_devices


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source=no/such-model"], "no/such-model"),
        (["--target=no/such@v1"], "name='no/such', revision='v1'"),
        (["--source=jaxalign/openmoji-clip@v1"], "revision"),
        (["--dtype=float16"], "dtype"),
        (["--dataset=imagenet"], "'imagenet'"),
        (["--seeds=0,0"], "--seeds"),
        (["--seeds=99999999999999999999"], "--seeds"),
        (["--source=~nosuchuser/m"], "nosuchuser"),
        (["--fit_on=sound"], "fit_on"),
        (["leftover"], "leftover"),
        (["--no_such_flag=1"], "no_such_flag"),
        (["--batch_size=0"], "batch_size"),
        (["--dataset=0.tar", "--dataset=1.tar"], "--dataset.*quote"),
        (["--dataset=openmoji/tiny", "--source=nowhere"], "nowhere"),
        (["--source=."], "config.json"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, said, tmp_path):
    done = launch_here("experiments.align", f"--workdir={tmp_path}/run", *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.search(said, line)
    assert not (tmp_path / "run").exists()


def test_unused_flags_and_bad_folders_are_mistakes(tmp_path):
    done = launch_here(
        "experiments.embed", "--tiny", "--seeds=1", unused=("fit_on", "seeds")
    )
    assert (done.returncode, "--seeds" in done.stderr) == (2, True)
    (tmp_path / "file").touch()
    for workdir in (tmp_path / "file", tmp_path / "file" / "below"):
        done = launch_here("experiments.fit", f"--workdir={workdir}", *_STORES)
        assert (done.returncode, "--workdir" in done.stderr) == (2, True)


_STORES = ["--source_store=a", "--target_store=b"]


def test_mistakes_and_bugs_end_apart():
    def ask_too_much():
        catalog.dataset_info("imagenet")

    def shape_badly():
        np.zeros(2).reshape(3)

    done = launch_main(ask_too_much)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    # The line says how to see more, and that shows it.
    (hint,) = re.findall(r"--\w+=\w+", done.stderr)
    done = launch_main(ask_too_much, hint)
    assert done.returncode == 2
    assert "in ask_too_much" in done.stderr
    assert "error: " in done.stderr
    done = launch_main(shape_badly)
    assert done.returncode == 1
    assert "in shape_badly" in done.stderr
    assert "error: " not in done.stderr


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ArgumentError("--x", "y"), True),
        (MissingFileError("no file"), True),
        (SolveError("no rank", Status.RANK_DEFICIENT), True),
        (FullDiskError("full"), True),
        (ValueError("of NumPy"), False),
        (FileNotFoundError("of Python"), False),
        (KeyError("x"), False),
    ],
)
def test_our_own_errors_are_for_the_user(error, expected):
    assert is_mistake(error) == expected


def test_what_the_system_refuses_is_for_the_user():
    def fail(code):
        raise OSError(code, os.strerror(code), "results.json")

    for code, expected in ((errno.ENOSPC, True), (errno.ENOENT, False)):
        with pytest.raises(OSError, match="results.json") as caught:
            fail(code)
        assert is_mistake(caught.value) == expected


def test_a_missing_device_is_named_wherever_it_shows(monkeypatch):
    monkeypatch.setattr(backend, "jax", without_devices("cuda"))
    done = launch_main(backend.jax.local_devices)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "JAX_PLATFORMS='cuda'" in line


def test_no_two_experiments_define_one_flag():
    found = pkgutil.walk_packages(experiments.__path__, "experiments.")
    names = [module.name for module in found]
    assert {"experiments.fit", "experiments.benchmarks.stiefel"} <= set(names)
    for name in names:
        importlib.import_module(name)  # absl refuses a flag's second definition


def test_help_needs_no_home_and_shows_the_shared_flags():
    # What a user sees who has neither HOME nor an entry in the system's list.
    code = "import os, runpy, sys; os.path.expanduser = lambda path: path; "
    code += "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
    kept = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", code, "experiments.align", "--help"],
        cwd=ROOT,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    for flag in ("source", "target", "dataset", "data_dir", "workdir", "fit_on"):
        assert f"--{flag}:" in done.stdout, done.stderr
    assert "--[no]tiny:" in done.stdout


@pytest.mark.slow
def test_a_process_of_its_own_ends_in_the_same_way():
    done = launch("experiments.align", "--dataset=imagenet")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
