# SPDX-License-Identifier: Apache-2.0
"""What a command answers: lines for people, one JSON object for programs."""

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from jaxalign._version import __version__
from jaxalign.json_values import json_values

_PACKAGES = ("jax", "jaxlib", "numpy")


@dataclasses.dataclass(frozen=True)
class Answer:
    """The result of a command.

    Attributes:
      lines: for people.
      facts: JSON values for programs; arrays' numbers and paths are converted.
      unmet: what `--require` asked for and did not get, or None.
    """

    lines: Sequence[str]
    facts: Mapping[str, Any]
    unmet: str | None = None

    def to_json(self, command: str) -> str:
        """Give the facts as one JSON object, with the versions that made them."""
        return as_json({"command": command, **self.facts, "versions": versions()})


def as_json(facts: Mapping[str, Any]) -> str:
    """Format JSON on one line; numbers that are not finite become null.

    >>> as_json({"top1": float("nan"), "widths": (512, 768)})
    '{"top1": null, "widths": [512, 768]}'
    """
    return json.dumps(json_values(facts), allow_nan=False)


def versions() -> dict[str, str]:
    """Give the versions of what computes, without loading it."""
    found = {"jaxalign": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
