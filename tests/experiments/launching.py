# SPDX-License-Identifier: Apache-2.0
"""Starts an experiment: in a process of its own as users do, or in this one."""

import contextlib
import dataclasses
import importlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import jaxtyping
from absl import flags, logging
from absl.testing import flagsaver

from experiments import launch as launch_module

ROOT = Path(__file__).parents[2]


def child_environment() -> dict[str, str]:
    """Return what processes of their own compile with: as few optimisations as here."""
    return {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m`` with `arguments`, in the project's folder."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@dataclasses.dataclass(frozen=True)
class Done:
    """How a launch in this process ended."""

    returncode: int
    stdout: str
    stderr: str


def launch_here(module: str, *arguments: str, unused: Sequence[str] = ()) -> Done:
    """Launch `module` in this process: without its start, and with its programs.

    Absl's own start-up is left out, which changes logging for good.
    """
    return launch_main(importlib.import_module(module).main, *arguments, unused=unused)


def launch_main(
    main: Callable[[], None], *arguments: str, unused: Sequence[str] = ()
) -> Done:
    """Launch a main function in this process; leave flags and signals as they were.

    Shapes are not checked, as they are not for users.
    """
    was_parsed, verbosity = flags.FLAGS.is_parsed(), logging.get_verbosity()
    output, errors = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(flagsaver.flagsaver())
        checked = not jaxtyping.config.jaxtyping_disable
        jaxtyping.config.update("jaxtyping_disable", True)
        stack.callback(jaxtyping.config.update, "jaxtyping_disable", not checked)
        own = flags.FLAGS.get_key_flags_for_module(main.__module__)
        for flag in (flags.FLAGS[name] for name in flags.FLAGS):
            if flag not in own:  # another experiment may require it
                stack.enter_context(mock.patch.object(flag, "validators", []))
        stack.callback(logging.set_verbosity, verbosity)
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            stack.callback(signal.signal, signal.SIGINT, before)
        stack.enter_context(mock.patch.object(sys, "warnoptions", [*sys.warnoptions]))
        stack.enter_context(mock.patch.object(launch_module, "_use_compilation_cache"))
        stack.enter_context(mock.patch.object(launch_module.app, "run", _run))
        stack.enter_context(mock.patch.object(sys, "argv", ["launch", *arguments]))
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(errors))
        try:
            launch_module.launch(main, unused=unused)
        except SystemExit as end:
            code = int(end.code or 0)
    if not was_parsed:
        flags.FLAGS.unparse_flags()
    return Done(code, output.getvalue(), errors.getvalue())


def _run(main, flags_parser):
    main(flags_parser(sys.argv))
