# SPDX-License-Identifier: Apache-2.0
"""Flags that experiments share, and a launch that turns mistakes into one line."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import jax
from absl import app, flags, logging

from jaxalign.backend import start_backend
from jaxalign.compilation_cache import (
    use_compilation_cache as _use_compilation_cache,
)
from jaxalign.data import catalog
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.pretrained import DTYPES, Dtype
from jaxalign.errors import ArgumentError, is_mistake
from jaxalign.workflows import models, outputs

_MODEL_HELP = (
    "a shipped pair, a checkpoint folder, or a model of the Hugging Face hub as "
    "owner/name or owner/name@revision."
)
SOURCE = flags.DEFINE_string(
    "source", "jaxalign/openmoji-clip", f"Source model: {_MODEL_HELP}"
)
TARGET = flags.DEFINE_string(
    "target", "jaxalign/openmoji-siglip", f"Target model: {_MODEL_HELP}"
)
DTYPE = flags.DEFINE_enum(
    "dtype", "float32", DTYPES, "Of the encoders' weights and activations."
)
DATASET = flags.DEFINE_string(
    "dataset",
    "openmoji",
    "Name of the data set (openmoji, oxford_iiit_pet, cifar100, caltech101, dtd, "
    "stl10), or a path: a folder of pictures with captions.csv, WebDataset tar files, "
    "a folder that TFDS has prepared.",
)
DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Where prepared data sets live. Default: jaxalign/datasets in the user's cache "
    "folder ($XDG_CACHE_HOME, or ~/.cache).",
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where results go. Default: runs/<experiment>."
)
FIT_ON = flags.DEFINE_enum(
    "fit_on", "image", ["image", "text", "all"], "Modality that the map is fitted on."
)
SEEDS = flags.DEFINE_list(
    "seeds", ["0", "1", "2"], "Seeds, separated by commas: one split of classes each."
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Examples a step.", lower_bound=1)
_NOTICE_SECONDS = 5.0
_LEAVE_SECONDS = 1.0
LARGEST_SEED = 2**31 - 1
TINY = flags.DEFINE_boolean("tiny", False, "The same work at toy size, in seconds.")


def load_model(name: str) -> Encoders:
    """Load a model that `--source` or `--target` names, in `--dtype`.

    Raises:
      ValueError: see `load_encoders`.
    """
    return models.load_model(name, cast(Dtype, DTYPE.value))


def parse_seeds() -> tuple[int, ...]:
    """Return `--seeds` as distinct integers.

    Raises:
      ValueError: if one is no integer of 0 to `LARGEST_SEED`, or comes twice.
    """
    texts = [text.strip() for text in SEEDS.value]
    seeds = tuple(int(text) for text in texts if text.isdigit())
    if not texts or len(set(seeds)) != len(texts) or max(seeds) > LARGEST_SEED:
        expected = f"distinct integers of 0 to {LARGEST_SEED}"
        raise ArgumentError("--seeds", expected, SEEDS.value, "write --seeds=0,1,2")
    return seeds


def open_workdir(default: str) -> Path:
    """Make the folder of `--workdir` and see that it can be written.

    Called before any work is done, so that none is lost.

    Raises:
      ValueError: if it cannot be made or written.
    """
    return outputs.open_folder(WORKDIR.value or default, "--workdir")


def dataset_name() -> str:
    """Return `--dataset`, or its toy-sized part under `--tiny`.

    Raises:
      ValueError: if there is no such data set; those that exist are named.
    """
    name = DATASET.value
    if TINY.value and name == "openmoji":
        name = f"{name}/tiny"
    catalog.dataset_info(name)
    return name


def launch(main: Callable[[], None], *, unused: Sequence[str] = ()) -> None:
    """Run an experiment's main under absl.

    Args:
      main: reads the flags and runs.
      unused: shared flags that this experiment has no use for.

    Bad flags, leftover arguments and what `is_mistake` finds become one message and
    exit code 2, with the traceback under `--verbosity=1`; Ctrl-C becomes one line and
    130. Other exceptions are bugs: a traceback and exit code 1.
    """
    # What a run that ends early leaves in shared memory, Python's tracker removes, and
    # warns of. It is started with these options.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")

    def guarded(argv: Sequence[str]) -> None:
        verbosity = logging.get_verbosity()
        logging.set_verbosity(max(verbosity - 1, logging.WARNING))
        try:
            if len(argv) > 1:
                left = " ".join(argv[1:])
                raise ArgumentError("arguments", "flags alone", left, "see --help")
            for name in unused:
                if flags.FLAGS[name].present:
                    raise ArgumentError(
                        f"--{name}", "a flag that this experiment uses", "this one"
                    )
            _use_compilation_cache()
            signal.signal(signal.SIGINT, _interrupt)
            main()
        except Exception as error:
            mistake = error if is_mistake(error) else _missing_backend()
            traced = mistake is None or verbosity >= 1
            if traced:
                traceback.print_exception(error)
            if mistake is not None:
                hint = "" if traced else " (--verbosity=1 shows where this is raised)"
                print(f"error: {mistake}{hint}", file=sys.stderr)
            _end(1 if mistake is None else 2)
        except KeyboardInterrupt:
            _say_interrupted()

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            left = flags.FLAGS(list(argv))
            _check_given_once(argv)
            return left
        except flags.Error as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    app.run(guarded, flags_parser=parse)


def _missing_backend() -> ArgumentError | None:
    """Return the reason where JAX has no device: then nothing else was at fault."""
    try:
        start_backend()
    except ArgumentError as error:
        return error
    return None


def _check_given_once(argv: Sequence[str]) -> None:
    """Raise over a flag that is given twice: the last one would win in silence.

    A shell makes many of one where braces are not quoted: --dataset=train-{0..9}.tar.

    Raises:
      flags.Error: naming the flag.
    """
    options = argv[1 : argv.index("--") if "--" in argv else None]
    names = [one.lstrip("-").split("=", 1)[0] for one in options if one[:1] == "-"]
    for name in sorted(set(names)):
        if name in flags.FLAGS and names.count(name) > 1:
            raise flags.Error(
                f"--{name} is given {names.count(name)} times; give it once, and quote "
                "a pattern with braces, which the shell would expand."
            )


def _interrupt(number: int, frame: object) -> None:
    """Leave in order; at once if that takes long, or the exception was swallowed.

    Python drops an exception that is raised while it frees an object or is called back.
    """
    timer = threading.Timer(_LEAVE_SECONDS, _say_interrupted)
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt


def _say_interrupted() -> None:
    """End an interrupted run."""
    print("\ninterrupted.", file=sys.stderr)
    _end(130, at_once=True)


def _end(code: int, *, at_once: bool = False) -> None:
    """End this process, also where others of its run, or its workers, still work."""
    joined = jax.distributed.is_initialized()
    if not (joined or at_once):
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    if joined and jax.process_index() == 0:
        # JAX aborts the others once their coordinator is gone; let them see why.
        time.sleep(_NOTICE_SECONDS)
    # To leave in order, JAX would wait for the others five minutes, and abort.
    os._exit(code)
