# SPDX-License-Identifier: Apache-2.0
"""`jaxalign`: which job is yours, and how every job ends.

Exit codes: 0 done, whatever the verdict; 1 a bug, with its traceback; 2 the user's
mistake, in one line; 3 a verdict below what `--require` asks for; 130 interrupted.
The result alone goes to stdout; progress, warnings and errors go to stderr.
"""

import contextlib
import importlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from jaxalign._version import __version__
from jaxalign.cli.answer import Answer, as_json
from jaxalign.cli.parser import CommandParser, UsageError, underscored
from jaxalign.errors import is_mistake
from jaxalign.extras import explain_missing

DONE, BUG, MISTAKE, NOT_MET, INTERRUPTED = 0, 1, 2, 3, 130

COMMANDS = {
    "demo": "see it work: two small models that ship with the package",
    "fit": "two files of paired rows in: a verdict and a map out",
    "apply": "carry a store of old rows to the new model's space",
    "evaluate": "how well a map does on new pairs of rows",
    "doctor": "what is wrong with a file of rows, from the rows alone",
    "pick": "which rows to embed with the new model first",
    "embed": "embed a folder of pictures with one model or two",
    "inspect": "what a map's file or a store holds, on one screen",
}
"""Every subcommand, and what it is for: each is a module of this package."""

_HELP = f"""usage: jaxalign COMMAND ... (jaxalign COMMAND --help shows an example)

Which job is yours?

  I have rows of two models, row i of both of one thing:
    jaxalign fit old.npy new.npy --out=map.safetensors
  I have a map, and a store that an old model made:
    jaxalign apply map.safetensors old_store/ new_store/
  I have the old store alone, and pairs still to make:
    jaxalign pick old.npy --n=1000 --out=ids.txt
  I have two models and a folder of pictures:
    jaxalign fit --models=old/model,new/model --pictures=folder/ --out=map.safetensors
  I want to see it work first:
    jaxalign demo

commands:
{chr(10).join(f"  {name:10}{text}" for name, text in COMMANDS.items())}

Rows: rows.npy, rows.npz::key, rows.safetensors::key, rows.parquet::column, or a folder
as clip-retrieval and autofaiss lay it out (folder/ or folder/::image).
Exit codes: 0 done, whatever the verdict; 1 a bug; 2 your mistake, in one line;
3 the verdict is below --require. --json prints one object on stdout.
"""

# An interrupted run that does not end by itself is ended after so many seconds.
_LEAVE_SECONDS = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
      argv: what follows the program's name; None: of this process.

    Returns:
      The exit code, see the module.
    """
    arguments = underscored(sys.argv[1:] if argv is None else argv)
    wants_json = "--json" in arguments
    try:
        with _interruptible():
            return _run(arguments)
    except KeyboardInterrupt:
        if argv is None:
            # Threads that still compute may not outlive the interpreter.
            _leave_at_once()
        _say("\ninterrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever reads the result has seen enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        mistake = error if is_mistake(error) else _missing_device()
        if mistake is None or "--traceback" in arguments:
            traceback.print_exception(error)
        if mistake is None:
            return BUG
        text = " ".join(str(mistake).split())
        if wants_json:
            _print(as_json({"error": text}))
        _say(f"error: {text}")
        return MISTAKE


def _run(arguments: Sequence[str]) -> int:
    """Parse, run and print what came out."""
    if not arguments:
        _say(_HELP.rstrip())
        return MISTAKE
    name, *rest = arguments
    if name in ("--help", "-h", "help"):
        _print(_HELP.rstrip())
        return DONE
    if name == "--version":
        _print(f"jaxalign {__version__}")
        return DONE
    if name not in COMMANDS:
        raise UsageError(
            f"expected one of {', '.join(COMMANDS)}, got {name!r}; see jaxalign --help"
        )
    command = importlib.import_module(f"jaxalign.cli.{name}")
    parser = CommandParser(name, command.__doc__ or "", command.EXAMPLES)
    command.add_arguments(parser)
    parsed = parser.parse(rest)
    if parsed is None:
        return DONE
    with (
        _plain_warnings(),
        contextlib.redirect_stdout(sys.stderr),
        explain_missing(f"jaxalign {name}", extra=getattr(command, "EXTRA", None)),
    ):
        answer: Answer = command.run(parsed)
    _print(answer.to_json(name) if parsed.json else "\n".join(answer.lines))
    if answer.unmet is not None:
        _say(f"not met: {answer.unmet}")
        return NOT_MET
    return DONE


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Leave in order at Ctrl-C; at once if that takes long."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    timer = threading.Timer(_LEAVE_SECONDS, _leave_at_once)
    timer.daemon = True

    def leave(number: int, frame: object) -> None:
        if not timer.is_alive():
            timer.start()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


def _leave_at_once() -> None:
    """End this process although threads still work."""
    _say("\ninterrupted.")
    sys.stderr.flush()
    os._exit(INTERRUPTED)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show a warning as one line."""

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        _say(f"warning: {' '.join(str(message).split())}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _missing_device() -> Exception | None:
    """Return the reason where JAX has no device: then nothing else was at fault."""
    if "jax" not in sys.modules:
        return None
    from jaxalign.backend import start_backend

    try:
        start_backend()
    except ValueError as error:
        return error
    return None


def _print(text: str) -> None:
    """Write the result."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _say(text: str) -> None:
    """Write what is no result."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


__all__ = ["COMMANDS", "main"]

if __name__ == "__main__":
    sys.exit(main())
