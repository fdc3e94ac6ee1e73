# SPDX-License-Identifier: Apache-2.0
"""How every command ends: exit codes, what goes to stdout, and what to stderr."""

import importlib
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

from jaxalign.cli import main as main_module
from jaxalign.cli.answer import Answer
from jaxalign.cli.main import COMMANDS


def _replaced(monkeypatch, action):
    """Let `inspect` do something else."""
    command = importlib.import_module("jaxalign.cli.inspect")
    monkeypatch.setattr(command, "run", action)


def test_help_says_which_job_is_yours(run):
    done = run("--help")
    assert (done.code, done.err) == (0, "")
    for name in COMMANDS:
        assert f"jaxalign {name}" in done.out or f"  {name} " in done.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_teaches_by_an_example(run, name):
    done = run(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"  jaxalign {name}" in done.out
    assert "--json" in done.out


def test_version(run):
    assert run("--version").out.startswith("jaxalign ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-command"], "no-such-command"),
        (["doctor"], "ROWS"),
        (["doctor", "nowhere.npy"], "nowhere.npy"),
        (["doctor", "a.npy", "--no-such-flag"], "--no_such_flag"),
        (["doctor", "a.npy", "--mo=text"], "--mo"),
        (["doctor", "a.npy", "--map=x", "--map=y"], "--map"),
        (["pick", "a.npy", "--n=many"], "--n"),
        (["inspect", "nowhere"], "nowhere"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_and_exit_code_2(run, arguments, said, tmp_path):
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    done = run(*arguments, "--json")
    assert done.code == 2
    assert said in done.json["error"]


def test_no_command_shows_the_help_and_fails(run):
    done = run()
    assert (done.code, done.out) == (2, "")
    assert "Which job is yours" in done.err


def test_hyphens_and_underscores_are_one_flag(run, files):
    for flag in ("--id_column=name", "--id-column=name", "--id-column"):
        more = ["name"] if flag == "--id-column" else []
        done = run("pick", files / "old.npy", "--n=3", flag, *more)
        # An .npy file has no columns: the flag was understood.
        assert done.code == 2
        assert "id_column" in done.err


def test_a_bug_is_a_traceback_and_exit_code_1(run, monkeypatch):
    def fail(arguments):
        raise KeyError("x")

    _replaced(monkeypatch, fail)
    done = run("inspect", "path", "--json")
    assert (done.code, done.out) == (1, "")
    assert "Traceback" in done.err
    assert "error: " not in done.err


def test_a_package_that_lacks_is_named_with_its_extra(run, monkeypatch):
    def need(arguments):
        raise ModuleNotFoundError("no pyarrow", name="pyarrow.parquet")

    _replaced(monkeypatch, need)
    done = run("inspect", "path")
    assert done.code == 2
    assert "pyarrow" in done.err
    assert "pip install 'jaxalign[" in done.err


def test_a_mistake_shows_where_if_asked(run):
    done = run("inspect", "nowhere", "--traceback")
    assert done.code == 2
    assert "Traceback" in done.err


def test_only_the_result_goes_to_stdout(run, monkeypatch):
    def talk(arguments):
        print("chatter")  # noqa: T201
        return Answer(["done"], {"number": np.float32(2.0), "missing": float("nan")})

    _replaced(monkeypatch, talk)
    done = run("inspect", "path")
    assert (done.code, done.out, done.err) == (0, "done\n", "chatter\n")
    found = run("inspect", "path", "--json").json
    assert (found["number"], found["missing"]) == (2.0, None)
    assert "jaxalign" in found["versions"]


def test_a_warning_is_one_line(run, monkeypatch):
    def warn(arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("look\nhere", stacklevel=1)
        return Answer([], {})

    _replaced(monkeypatch, warn)
    assert "warning: look here\n" in run("inspect", "path").err


def test_what_is_required_and_not_met_is_exit_code_3(run, monkeypatch):
    def answer(arguments):
        return Answer(["weak"], {"verdict": "weak"}, "usable, and it is weak")

    _replaced(monkeypatch, answer)
    done = run("inspect", "path", "--json")
    assert (done.code, done.json["verdict"]) == (3, "weak")
    assert "usable" in done.err


def test_an_interrupted_command_leaves_in_order(run, monkeypatch):
    monkeypatch.setattr(main_module, "_LEAVE_SECONDS", 60.0)

    def wait(arguments):
        signal.raise_signal(signal.SIGINT)

    _replaced(monkeypatch, wait)
    done = run("inspect", "path")
    assert (done.code, done.out) == (130, "")
    assert "interrupted" in done.err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_help_and_doctor_load_nothing_heavy(files):
    heavy = "{'jax', 'transformers', 'PIL', 'tokenizers', 'grain', 'matplotlib'}"
    for arguments in (["--help"], ["fit", "--help"], ["doctor", f"{files}/old.npy"]):
        code = (
            "import sys; from jaxalign.cli.main import main; "
            f"code = main({arguments!r}); "
            f"sys.exit(code or len({heavy} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (arguments, done.stderr)
