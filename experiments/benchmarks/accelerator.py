# SPDX-License-Identifier: Apache-2.0
"""How fast and how right jaxalign is on one accelerator, in one command.

    python -m experiments.benchmarks.accelerator

Sections: `correctness`, moments and solvers against float64 on the host; `fit`, a
closed form from a million rows on the device; `polar`, polar factors by our methods and
by each SVD algorithm of JAX; `encoders`, ViT-B/32 in float32 and bfloat16; `race`,
Stiefel optimisers against the closed form. torch is a peer where it is installed.

The run takes less than six minutes on one GPU, writes a JSON file after each group of
measurements and prints a table. Exit codes: 0; 1 if a check failed; 2 for a wrong flag.

It needs jax, flax, optax, numpy, scipy, transformers, safetensors, jaxtyping and absl
alone, so that it runs on machines that hold little else. The flags are therefore its
own: `experiments.launch` imports the data pipeline.
"""

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from experiments.benchmarks.accelerator_checks import check_all
from experiments.benchmarks.accelerator_encoders import time_encoders
from experiments.benchmarks.accelerator_fit import time_fit
from experiments.benchmarks.accelerator_polar import time_polar
from experiments.benchmarks.accelerator_race import time_race
from experiments.benchmarks.accelerator_record import (
    OUT_OF_TIME,
    Measurement,
    Record,
    describe_machine,
    failure,
)
from experiments.benchmarks.accelerator_timing import Deadline, Job

Section = Callable[[Job], Iterator[list[Measurement]]]

SECTIONS: dict[str, tuple[Section, float]] = {
    "correctness": (check_all, 100.0),
    # Before what else takes memory: the device's peak is never reset.
    "fit": (time_fit, 50.0),
    "polar": (time_polar, 100.0),
    "encoders": (time_encoders, 80.0),
    "race": (time_race, 30.0),
}
"""By name: a section, and its share of the seconds that are left when it starts."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run.

    Attributes:
      out: the JSON file.
      sections: names of `SECTIONS`, in the order in which they run.
      tiny: toy sizes.
      rounds: counted runs of each call, at most.
      budget_seconds: no call is started later than this.
      torch: whether torch is timed where it is installed.
    """

    out: Path = Path("runs/accelerator/accelerator.json")
    sections: tuple[str, ...] = tuple(SECTIONS)
    tiny: bool = False
    rounds: int = 5
    budget_seconds: float = 330.0
    torch: bool = True


def run(settings: Settings) -> int:
    """Run the sections and return the exit code."""
    machine = describe_machine()
    versions = machine["versions"]
    print("  ".join(f"{name} {version}" for name, version in versions.items()))
    print(machine["platform_version"], machine["driver"])
    if machine["backend"] == "cpu" and not settings.tiny:
        print("This is no accelerator, and full sizes take long; --tiny takes seconds.")
    values = {**dataclasses.asdict(settings), "out": str(settings.out)}
    record = Record(settings.out, values, machine)
    deadline = Deadline(settings.budget_seconds)
    shares = {name: SECTIONS[name][1] for name in settings.sections}
    for name in settings.sections:
        # What earlier sections leave unused is shared by the later ones.
        seconds = deadline.left * shares[name] / sum(shares.values())
        del shares[name]
        if deadline.passed:
            record.finish(name, OUT_OF_TIME)
        else:
            _run_section(name, Deadline(seconds), settings, record)
    for line in record.failed:
        print(f"FAILED: {line.section}: {line.name} {line.shape} {line.note}")
    print(f"\nWritten to {settings.out}.")
    return 1 if record.failed else 0


def _run_section(
    name: str, deadline: Deadline, settings: Settings, record: Record
) -> None:
    """Run one section; an error ends the section, not the run."""
    job = Job(deadline, settings.tiny, settings.rounds, settings.torch)
    section, _ = SECTIONS[name]
    started = time.perf_counter()
    status = "done"
    try:
        for lines in section(job):
            record.add(lines)
        if deadline.passed:
            status = "out of time"
    except Exception as error:  # noqa: BLE001
        status = "failed"
        record.add([failure(name, "the rest", error)])
    record.finish(name, status, time.perf_counter() - started)


def parse(arguments: Sequence[str]) -> Settings:
    """Read the flags; a wrong one ends the process with exit code 2."""
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.accelerator",
        description="Measure jaxalign on one accelerator.",
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, default=defaults.out, help="JSON file.")
    parser.add_argument("--tiny", action="store_true", help="Toy sizes, in seconds.")
    parser.add_argument(
        "--sections",
        type=lambda text: tuple(text.split(",")),
        default=defaults.sections,
        help=f"Separated by commas, of {', '.join(SECTIONS)}. Default: all.",
    )
    parser.add_argument(
        "--rounds", type=int, default=defaults.rounds, help="Counted runs, at most."
    )
    parser.add_argument(
        "--budget_seconds",
        type=float,
        default=defaults.budget_seconds,
        help="No call starts later than this; what is left out is named.",
    )
    parser.add_argument(
        "--torch",
        action=argparse.BooleanOptionalAction,
        default=defaults.torch,
        help="Time torch too, where it is installed.",
    )
    settings = Settings(**vars(parser.parse_args(arguments)))
    unknown = set(settings.sections) - set(SECTIONS)
    if unknown or len(set(settings.sections)) != len(settings.sections):
        parser.error(
            f"--sections: expected some of {', '.join(SECTIONS)}, each once, got "
            f"{','.join(settings.sections)!r}"
        )
    if settings.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {settings.rounds}")
    return settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the flags and run."""
    settings = parse(sys.argv[1:] if arguments is None else arguments)
    # Before a backend starts: all memory for JAX would leave torch none.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
