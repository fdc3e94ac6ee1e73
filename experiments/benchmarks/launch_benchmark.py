# SPDX-License-Identifier: Apache-2.0
"""The flags of benchmarks without models: how often, and which sections."""

from collections.abc import Iterable

from absl import flags

from experiments import launch as launch  # defines the flags that are declared
from jaxalign.errors import ArgumentError

ROUNDS = flags.DEFINE_integer("rounds", 5, "Counted runs of each.", 1)
_SECTIONS = flags.DEFINE_list(
    "sections", None, "Which sections, of those that the benchmark has. Default: all."
)

for _name in ("workdir", "tiny"):
    flags.declare_key_flag(_name)
UNUSED = (
    *("source", "target", "dtype", "dataset", "data_dir"),
    *("fit_on", "seeds", "batch_size"),
)
"""Shared flags that such a benchmark has no use for."""


def chosen_sections(names: Iterable[str]) -> list[str]:
    """Return the sections that `--sections` names, of those that there are.

    Raises:
      ValueError: for a name that there is not.
    """
    names = list(names)
    chosen = names if _SECTIONS.value is None else _SECTIONS.value
    unknown = set(chosen) - set(names)
    if not chosen or unknown:
        raise ArgumentError(
            "--sections",
            f"some of {', '.join(names)}",
            f"{','.join(chosen)!r}",
            "leave it out for all",
        )
    return chosen
